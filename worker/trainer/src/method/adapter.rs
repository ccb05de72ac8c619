//! The tensors of one trial under their names.

use tch::{TchError, Tensor};

use super::{LOWRANK_A_KEY, LOWRANK_B_KEY, PROMPT_KEY};

/// Named tensors of one trial, in a fixed order: what it trains, or what its optimiser keeps of
/// that. DePT and prompt tuning use the reference's names ([`PROMPT_KEY`], [`LOWRANK_A_KEY`],
/// [`LOWRANK_B_KEY`]), LoRA those of PEFT, full fine-tuning those of the model's own files.
#[derive(Debug, Default)]
pub struct Adapter {
    tensors: Vec<(String, Tensor)>,
}

/// The low-rank pair: row i of scaling * A B is added to the input's position i.
#[derive(Debug)]
pub struct LowRank {
    /// A [s, r].
    pub a: Tensor,
    /// B [r, d].
    pub b: Tensor,
}

impl Adapter {
    /// An adapter of the given tensors.
    #[must_use]
    pub fn new(tensors: Vec<(String, Tensor)>) -> Adapter {
        Adapter { tensors }
    }

    /// The tensors of DePT: P [m, d] unless m = 0, A and B unless r = 0.
    #[must_use]
    pub fn dept(prompt: Option<Tensor>, lowrank: Option<LowRank>) -> Adapter {
        let mut tensors = Vec::new();
        tensors.extend(prompt.map(|prompt| (PROMPT_KEY.to_owned(), prompt)));
        if let Some(LowRank { a, b }) = lowrank {
            tensors.extend([(LOWRANK_A_KEY.to_owned(), a), (LOWRANK_B_KEY.to_owned(), b)]);
        }
        Adapter { tensors }
    }

    /// The tensors with their names.
    pub fn named(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The tensor of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.named().find(|(known, _)| *known == name).map(|(_, tensor)| tensor)
    }

    /// P [m, d], if the adapter has a prompt.
    #[must_use]
    pub fn prompt(&self) -> Option<&Tensor> {
        self.get(PROMPT_KEY)
    }

    /// A [s, r] and B [r, d] (not copied), if the adapter has them.
    #[must_use]
    pub fn lowrank(&self) -> Option<LowRank> {
        let (a, b) = (self.get(LOWRANK_A_KEY)?, self.get(LOWRANK_B_KEY)?);
        Some(LowRank { a: a.shallow_clone(), b: b.shallow_clone() })
    }

    /// Numbers in all tensors together.
    #[must_use]
    pub fn numel(&self) -> usize {
        self.tensors.iter().map(|(_, tensor)| tensor.numel()).sum()
    }

    /// Whether there is no tensor at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// The same tensors, not copied.
    pub(crate) fn shallow(&self) -> Adapter {
        let shallow = |(name, tensor): &(String, Tensor)| (name.clone(), tensor.shallow_clone());
        Adapter { tensors: self.tensors.iter().map(shallow).collect() }
    }

    /// A copy that shares no memory with the pack.
    pub(crate) fn copied(&self) -> Result<Adapter, TchError> {
        let copy = |(name, tensor): &(String, Tensor)| -> Result<_, TchError> {
            let mut copy = Tensor::f_empty(tensor.size(), (tensor.kind(), tensor.device()))?;
            copy.f_copy_(&tensor.f_detach()?)?;
            Ok((name.clone(), copy))
        };
        Ok(Adapter { tensors: self.tensors.iter().map(copy).collect::<Result<_, _>>()? })
    }

    /// The same tensors behind a prefix to their names.
    pub(crate) fn prefixed(&self, prefix: &str) -> Adapter {
        let tensors = self.named();
        let tensors = tensors.map(|(name, t)| (format!("{prefix}{name}"), t.shallow_clone()));
        Adapter { tensors: tensors.collect() }
    }

    /// Adds another's tensors behind its own.
    pub(crate) fn extend(&mut self, other: Adapter) {
        self.tensors.extend(other.tensors);
    }
}
