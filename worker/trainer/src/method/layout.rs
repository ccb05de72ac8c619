//! Where the parameters of a pack lie: one flat buffer [K, N] of named segments, so that
//! clipping and AdamW are the same few operations for any K and any method.
//!
//! Trials may differ in m and r. A shorter prompt takes the last rows of the prompt's place (the
//! rows in front of it are masked keys), a smaller rank the first columns or rows of both factors
//! (the others are zero in both, so their gradients are exactly zero).

use tch::{TchError, Tensor};

use super::lora::Module;
use super::{Adapter, LOWRANK_A_KEY, LOWRANK_B_KEY, Method, PROMPT_KEY};

/// Which of a trial's learning rates a segment takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rate {
    /// α1.
    Prompt,
    /// α2.
    LowRank,
    /// The one rate of LoRA and full fine-tuning.
    Only,
}

/// How much of a segment a trial uses, by its sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Share {
    /// All of it.
    Whole,
    /// The last m along axis 0.
    Prompt,
    /// The first r of DePT along an axis.
    Rank(i64),
    /// The first r of LoRA along an axis.
    LoraRank(i64),
}

/// One tensor of the pack.
#[derive(Debug, Clone)]
struct Segment {
    name: String,
    /// Large enough for every trial.
    shape: Vec<i64>,
    /// Place of its first element in a row.
    start: i64,
    rate: Rate,
    share: Share,
}

impl Segment {
    fn size(&self) -> i64 {
        self.shape.iter().product()
    }

    /// [K, ...shape] of a buffer [K, N].
    fn view(&self, flat: &Tensor) -> Result<Tensor, TchError> {
        let mut shape = vec![-1];
        shape.extend_from_slice(&self.shape);
        flat.f_narrow(1, self.start, self.size())?.f_view(shape.as_slice())
    }

    /// The axis that a trial cuts, where its share of it starts, and how long that is.
    fn cut(&self, method: Method) -> Option<(i64, i64, i64)> {
        let along = |axis: i64| self.shape.get(axis as usize).copied().unwrap_or(0);
        match self.share {
            Share::Whole => None,
            Share::Prompt => {
                let length = method.prompt_length() as i64;
                Some((0, along(0) - length, length))
            }
            Share::Rank(axis) => Some((axis, 0, method.rank() as i64)),
            Share::LoraRank(axis) => Some((axis, 0, method.lora_rank() as i64)),
        }
    }
}

/// Sizes that do not depend on the trials.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dimensions {
    /// s
    pub(crate) max_length: usize,
    /// d
    pub(crate) d_model: usize,
    /// The maps that LoRA goes beside.
    pub(crate) modules: Vec<Module>,
    /// Every weight of the model, where all of them are trained.
    pub(crate) weights: Vec<(String, Vec<i64>)>,
}

/// The segments of the flat buffer.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    segments: Vec<Segment>,
    /// N
    size: i64,
    /// Longest prompt of the pack.
    pub(crate) prompt_length: i64,
    /// Largest rank of the pack.
    pub(crate) rank: i64,
    /// Largest rank of LoRA in the pack.
    pub(crate) lora_rank: i64,
    /// d
    pub(crate) d_model: i64,
}

impl Layout {
    pub(crate) fn new(methods: &[Method], dimensions: &Dimensions) -> Self {
        let largest = |size: fn(Method) -> usize| {
            methods.iter().map(|&method| size(method)).max().unwrap_or(0) as i64
        };
        let mut layout = Self {
            segments: Vec::new(),
            size: 0,
            prompt_length: largest(Method::prompt_length),
            rank: largest(Method::rank),
            lora_rank: largest(Method::lora_rank),
            d_model: dimensions.d_model as i64,
        };
        let (m, r, d) = (layout.prompt_length, layout.rank, layout.d_model);
        let s = dimensions.max_length as i64;
        if m > 0 {
            layout.push(PROMPT_KEY.to_owned(), vec![m, d], Rate::Prompt, Share::Prompt);
        }
        if r > 0 {
            layout.push(LOWRANK_A_KEY.to_owned(), vec![s, r], Rate::LowRank, Share::Rank(1));
            layout.push(LOWRANK_B_KEY.to_owned(), vec![r, d], Rate::LowRank, Share::Rank(0));
        }
        let r = layout.lora_rank;
        for module in dimensions.modules.iter().filter(|_| r > 0) {
            let Module { inputs, outputs, .. } = *module;
            layout.push(module.a_key(), vec![r, inputs], Rate::Only, Share::LoraRank(0));
            layout.push(module.b_key(), vec![outputs, r], Rate::Only, Share::LoraRank(1));
        }
        if methods.contains(&Method::Full) {
            for (name, shape) in &dimensions.weights {
                layout.push(name.clone(), shape.clone(), Rate::Only, Share::Whole);
            }
        }
        layout
    }

    fn push(&mut self, name: String, shape: Vec<i64>, rate: Rate, share: Share) {
        let segment = Segment { name, shape, start: self.size, rate, share };
        self.size += segment.size();
        self.segments.push(segment);
    }

    /// N
    pub(crate) fn size(&self) -> i64 {
        self.size
    }

    /// Place among the segments of the one of a name.
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.segments.iter().position(|segment| segment.name == name)
    }

    /// Names of the segments in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().map(|segment| segment.name.as_str())
    }

    /// Views [K, ...] of all segments of a buffer [K, N] that share its memory, but not its
    /// history: leaves of a graph, so that each gets a gradient of its own size.
    pub(crate) fn leaves(&self, flat: &Tensor) -> Result<Vec<Tensor>, TchError> {
        let leaf = |segment: &Segment| segment.view(flat)?.f_detach()?.f_set_requires_grad(true);
        self.segments.iter().map(leaf).collect()
    }

    /// One buffer [K, N] of values [K, ...] per segment; zero where there is none.
    pub(crate) fn join(&self, parts: &[Option<Tensor>], like: &Tensor) -> Result<Tensor, TchError> {
        let trials = like.size2()?.0;
        let row = |(segment, part): (&Segment, &Option<Tensor>)| match part {
            Some(part) => part.f_reshape([trials, segment.size()]),
            None => Tensor::f_zeros([trials, segment.size()], (like.kind(), like.device())),
        };
        let rows: Vec<Tensor> =
            self.segments.iter().zip(parts).map(row).collect::<Result<_, _>>()?;
        Tensor::f_cat(&rows, 1)
    }

    /// The places of one trial in row `k` of a buffer, as views of the trial's own shapes.
    pub(crate) fn views(
        &self,
        flat: &Tensor,
        k: usize,
        method: Method,
    ) -> Result<Adapter, TchError> {
        let row = flat.f_narrow(0, k as i64, 1)?;
        let mut views = Vec::new();
        for segment in &self.segments {
            let whole = segment.view(&row)?.f_get(0)?;
            let own = match segment.cut(method) {
                None => whole,
                Some((_, _, 0)) => continue,
                Some((axis, start, length)) => whole.f_narrow(axis, start, length)?,
            };
            views.push((segment.name.clone(), own));
        }
        Ok(Adapter::new(views))
    }

    /// Learning rates of one trial's row as f64 values: one per element, or a single one where
    /// all segments take the same.
    pub(crate) fn rates(&self, rate_of: impl Fn(Rate) -> f64) -> Vec<f64> {
        let mut rates = Vec::new();
        for segment in &self.segments {
            rates.resize(rates.len() + segment.size() as usize, rate_of(segment.rate));
        }
        rates
    }

    /// Whether all segments take the same of a trial's learning rates.
    pub(crate) fn one_rate(&self) -> bool {
        self.segments.windows(2).all(|pair| matches!(pair, [a, b] if a.rate == b.rate))
    }

    /// The rate that the segments take one by one.
    pub(crate) fn segment_rates(&self) -> impl Iterator<Item = Rate> {
        self.segments.iter().map(|segment| segment.rate)
    }

    /// The rate that the segment of a name takes.
    pub(crate) fn rate_of(&self, name: &str) -> Option<Rate> {
        self.segments.iter().find(|segment| segment.name == name).map(|segment| segment.rate)
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn trials_of_other_sizes_have_places_of_their_own_shapes() {
        let methods = [
            Method::Dept { prompt_length: 2, rank: 3 },
            Method::Dept { prompt_length: 0, rank: 1 },
            Method::PromptTuning { prompt_length: 4 },
        ];
        let dimensions = Dimensions { max_length: 5, d_model: 2, ..Dimensions::default() };
        let layout = Layout::new(&methods, &dimensions);
        assert_eq!(layout.size(), 4 * 2 + 5 * 3 + 3 * 2);
        let flat = Tensor::zeros([3, layout.size()], (Kind::Float, Device::Cpu));
        let shapes = |k: usize| -> Vec<Vec<i64>> {
            let views = layout.views(&flat, k, methods[k]).unwrap();
            views.named().map(|(_, tensor)| tensor.size()).collect()
        };
        assert_eq!(shapes(0), [vec![2, 2], vec![5, 3], vec![3, 2]]);
        assert_eq!(shapes(1), [vec![5, 1], vec![1, 2]]);
        assert_eq!(shapes(2), [vec![4, 2]]);
        let mut last = layout.views(&flat, 0, methods[0]).unwrap().prompt().unwrap().get(1);
        let _ = last.fill_(1.0);
        assert_eq!(flat.get(0).narrow(0, 6, 2).sum(Kind::Float).double_value(&[]), 2.0);
    }

    #[test]
    fn gradients_of_leaves_join_to_a_row_per_trial() {
        let methods = [Method::Lora { rank: 2, alpha: 8.0 }, Method::Lora { rank: 1, alpha: 8.0 }];
        let module = Module { name: "q".to_owned(), inputs: 3, outputs: 4 };
        let dimensions = Dimensions { modules: vec![module], ..Dimensions::default() };
        let layout = Layout::new(&methods, &dimensions);
        let flat = Tensor::rand([2, layout.size()], (Kind::Float, Device::Cpu));
        let leaves = layout.leaves(&flat).unwrap();
        assert_eq!(leaves[0].size(), [2, 2, 3]);
        assert_eq!(leaves[1].size(), [2, 4, 2]);
        let parts: Vec<Option<Tensor>> = leaves.iter().map(|leaf| Some(leaf.detach())).collect();
        assert!(layout.join(&parts, &flat).unwrap().equal(&flat));
        let second = layout.views(&flat, 1, methods[1]).unwrap();
        let shapes: Vec<Vec<i64>> = second.named().map(|(_, tensor)| tensor.size()).collect();
        assert_eq!(shapes, [[1, 3], [4, 1]]);
    }
}
