//! Named tensors to and from the bytes of a safetensors file.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use safetensors::{Dtype, SafeTensorError, SafeTensors, View};
use tch::{Device, Kind, TchError, Tensor};

use crate::method::Adapter;
use crate::weights::kind_of;

/// Why tensors cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum TensorsError {
    /// The tensors have a number format that has no name in safetensors.
    #[error("tensor {name} has number format {kind:?}, which is not saved")]
    Kind {
        /// Name of the tensor.
        name: String,
        /// Its format.
        kind: Kind,
    },
    /// Reading or writing the file's layout.
    #[error("the bytes are no whole safetensors file")]
    Format(#[source] SafeTensorError),
    /// A tensor is stored in a number format that is not read.
    #[error("tensor {name} is stored as {dtype:?}")]
    Dtype {
        /// Name of the tensor.
        name: String,
        /// The format in the file.
        dtype: Dtype,
    },
    /// libtorch failed, most often for want of memory.
    #[error("cannot copy tensor {name}")]
    Copy {
        /// Name of the tensor.
        name: String,
        /// What libtorch said.
        #[source]
        source: TchError,
    },
}

/// The bytes of a safetensors file that holds the given tensors; equal tensors give equal bytes.
///
/// # Errors
/// [`TensorsError`] for a number format other than f64, f32, f16 or bf16.
pub fn to_bytes(
    tensors: &[(String, &Tensor)],
    metadata: Option<(String, String)>,
) -> Result<Vec<u8>, TensorsError> {
    let raw: Vec<(&str, Raw)> = tensors
        .iter()
        .map(|(name, tensor)| Ok((name.as_str(), Raw::new(name, tensor)?)))
        .collect::<Result<_, TensorsError>>()?;
    let metadata = metadata.map(|entry| HashMap::from([entry]));
    safetensors::serialize(raw, metadata).map_err(TensorsError::Format)
}

/// The tensors of a safetensors file, on the CPU.
///
/// # Errors
/// [`TensorsError`] when the bytes are torn or hold other than floating-point tensors.
pub fn from_bytes(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, TensorsError> {
    let file = SafeTensors::deserialize(bytes).map_err(TensorsError::Format)?;
    file.iter()
        .map(|(name, view)| {
            let name = name.to_owned();
            let dtype = view.dtype();
            let kind =
                kind_of(dtype).ok_or_else(|| TensorsError::Dtype { name: name.clone(), dtype })?;
            let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
            match Tensor::f_from_data_size(view.data(), &shape, kind) {
                Ok(tensor) => Ok((name, tensor)),
                Err(source) => Err(TensorsError::Copy { name, source }),
            }
        })
        .collect()
}

/// One entry of a safetensors file's metadata.
///
/// # Errors
/// [`TensorsError::Format`] when the bytes are torn.
pub fn metadata(bytes: &[u8], key: &str) -> Result<Option<String>, TensorsError> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(TensorsError::Format)?;
    Ok(header.metadata().as_ref().and_then(|entries| entries.get(key)).cloned())
}

impl Adapter {
    /// The bytes of an adapter file: the tensors under their names. For prompt tuning and LoRA
    /// that is the `adapter_model.safetensors` of PEFT.
    ///
    /// # Errors
    /// [`TensorsError`] when a tensor cannot be copied.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TensorsError> {
        to_bytes(&self.entries(), None)
    }

    /// Reads an adapter file. Whether the tensors are those of a trial shows when they are put
    /// into its pack.
    ///
    /// # Errors
    /// [`TensorsError`] when the bytes are torn or hold other than floating-point tensors.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TensorsError> {
        Ok(Self::new(from_bytes(bytes)?.into_iter().collect()))
    }

    /// The tensors as [`to_bytes`] takes them.
    pub(crate) fn entries(&self) -> Vec<(String, &Tensor)> {
        self.named().map(|(name, tensor)| (name.to_owned(), tensor)).collect()
    }

    /// Takes the tensors with a prefix out of a file's.
    pub(crate) fn take(tensors: &mut BTreeMap<String, Tensor>, prefix: &str) -> Self {
        let taken = tensors.extract_if(.., |name, _| name.starts_with(prefix));
        let named = taken.map(|(name, tensor)| (name[prefix.len()..].to_owned(), tensor));
        Self::new(named.collect())
    }
}

/// A tensor's bytes on the CPU.
struct Raw {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl Raw {
    fn new(name: &str, tensor: &Tensor) -> Result<Self, TensorsError> {
        let kind = tensor.kind();
        let dtype = match kind {
            Kind::Double => Dtype::F64,
            Kind::Float => Dtype::F32,
            Kind::Half => Dtype::F16,
            Kind::BFloat16 => Dtype::BF16,
            _ => return Err(TensorsError::Kind { name: name.to_owned(), kind }),
        };
        let copy = || {
            let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?;
            let mut data = vec![0u8; tensor.numel() * kind.elt_size_in_bytes()];
            tensor.f_copy_data_u8(&mut data, tensor.numel())?;
            Ok(data)
        };
        let data = copy().map_err(|source| TensorsError::Copy { name: name.to_owned(), source })?;
        let shape = tensor.size().into_iter().map(|size| size as usize).collect();
        Ok(Self { dtype, shape, data })
    }
}

impl View for Raw {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.data)
    }

    fn data_len(&self) -> usize {
        self.data.len()
    }
}
