//! LoRA's pairs beside the maps of a model.

use std::collections::HashMap;

use tch::{TchError, Tensor};

/// A map of the model that LoRA goes beside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Module {
    /// Its name in the model's files, without `.weight`.
    pub(crate) name: String,
    /// Numbers that go in.
    pub(crate) inputs: i64,
    /// Numbers that come out.
    pub(crate) outputs: i64,
}

impl Module {
    /// PEFT's name of A [r, inputs].
    pub(crate) fn a_key(&self) -> String {
        format!("base_model.model.{}.lora_A.weight", self.name)
    }

    /// PEFT's name of B [outputs, r].
    pub(crate) fn b_key(&self) -> String {
        format!("base_model.model.{}.lora_B.weight", self.name)
    }
}

/// The pairs of all trials of a pack, by the name of their map.
pub(crate) struct Lora {
    /// A as [K, inputs, r], B as [K, r, outputs] (views of the parameters).
    pairs: HashMap<String, (Tensor, Tensor)>,
    /// α/r per trial, [K, 1, 1].
    scaling: Tensor,
}

impl Lora {
    /// Pairs A [K, r, inputs], B [K, outputs, r] per module, in the modules' order.
    pub(crate) fn new(
        modules: &[Module],
        pairs: &[Tensor],
        scaling: &Tensor,
    ) -> Result<Lora, TchError> {
        let transposed = |(module, pair): (&Module, &[Tensor])| match pair {
            [a, b] => {
                let name = bare(&module.name).to_owned();
                Ok((name, (a.f_transpose(1, 2)?, b.f_transpose(1, 2)?)))
            }
            _ => Err(TchError::Shape(format!("the pair beside {}", module.name))),
        };
        let pairs =
            modules.iter().zip(pairs.chunks(2)).map(transposed).collect::<Result<_, _>>()?;
        Ok(Lora { pairs, scaling: scaling.shallow_clone() })
    }

    /// (α/r) B A x: what the map `name` gets on top for inputs x [K or 1, B, T, inputs], as
    /// [K, B, T, outputs].
    pub(crate) fn delta(&self, name: &str, x: &Tensor) -> Result<Option<Tensor>, TchError> {
        let Some((a, b)) = self.pairs.get(bare(name)) else { return Ok(None) };
        let (one, rows, time, inputs) = x.size4()?;
        let k = a.size3()?.0;
        let x = x.f_reshape([one, rows * time, inputs])?.f_expand([k, -1, -1], false)?;
        let delta = x.f_bmm(a)?.f_bmm(b)?.f_mul(&self.scaling)?;
        delta.f_view([k, rows, time, -1]).map(Some)
    }

    /// A [K, inputs, r] times the scaling, and B [K, r, outputs] of the map `name`, for a layer
    /// that applies its map elsewhere than to its inputs.
    pub(crate) fn pair(&self, name: &str) -> Result<Option<(Tensor, &Tensor)>, TchError> {
        let Some((a, b)) = self.pairs.get(bare(name)) else { return Ok(None) };
        Ok(Some((a.f_mul(&self.scaling)?, b)))
    }
}

/// A map's name without the name of the model's body, which some files leave out.
fn bare(name: &str) -> &str {
    let stripped = name.strip_prefix("transformer.").or_else(|| name.strip_prefix("model."));
    stripped.unwrap_or(name)
}
