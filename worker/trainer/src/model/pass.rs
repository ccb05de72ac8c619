//! What a pass through a model takes besides its inputs.

use crate::dropout::Masks;
use crate::method::Lora;

/// Dropout and LoRA of one pass, both optional.
#[derive(Clone, Copy, Default)]
pub(crate) struct Pass<'a> {
    /// None outside of training.
    pub(crate) masks: Option<&'a Masks<'a>>,
    /// Pairs beside the attention's maps.
    pub(crate) lora: Option<&'a Lora>,
}

impl<'a> Pass<'a> {
    /// The same pass without dropout.
    pub(crate) fn still(self) -> Pass<'a> {
        Pass { masks: None, ..self }
    }
}
