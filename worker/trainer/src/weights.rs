//! Weights from safetensors files, memory-mapped and converted tensor by tensor.
//!
//! Reading a pickle file runs code from that file, so `pytorch_model.bin` is never opened.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::Deserialize;
use tch::{Device, Kind, TchError, Tensor};

/// Name of the weight file of a model directory.
pub const MODEL_FILE: &str = "model.safetensors";
/// Name of the list of a sharded model's files.
pub const INDEX_FILE: &str = "model.safetensors.index.json";

/// Why weights cannot be loaded. Every variant names the file and the next step.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The directory has neither `model.safetensors` nor its index.
    #[error("{} holds no {MODEL_FILE}; {hint}", dir.display())]
    NoFile {
        /// The model's directory.
        dir: PathBuf,
        /// What to do.
        hint: &'static str,
    },
    /// A file cannot be opened or mapped.
    #[error("cannot open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file is not a whole safetensors file.
    #[error(
        "{} is no complete safetensors file ({length} bytes); compare its size with the original \
         and fetch it again",
        path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Bytes found.
        length: u64,
        /// What is wrong with it.
        #[source]
        source: SafeTensorError,
    },
    /// The index of a sharded model is no valid JSON.
    #[error("{} is no index of safetensors files; fetch it again", path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// Names line and column.
        #[source]
        source: serde_json::Error,
    },
    /// The index names a file outside of the model's directory.
    #[error("{} names the file {name:?}, which is not a plain file name", path.display())]
    IndexPath {
        /// The index.
        path: PathBuf,
        /// The refused name.
        name: String,
    },
    /// A tensor that the model needs is absent.
    #[error(
        "{} has no tensor {name} (expected shape {expected:?}); check that config.json belongs \
         to this file",
        path.display()
    )]
    MissingTensor {
        /// The file, or the directory of a sharded model.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
        /// The shape that the configuration asks for.
        expected: Vec<i64>,
    },
    /// A tensor has another shape than the configuration asks for.
    #[error(
        "{}: tensor {name} has shape {found:?}, expected {expected:?}; check that config.json \
         belongs to this file",
        path.display()
    )]
    Shape {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
        /// The shape in the file.
        found: Vec<i64>,
        /// The shape that the configuration asks for.
        expected: Vec<i64>,
    },
    /// A tensor is stored in a number format that is not read.
    #[error(
        "{}: tensor {name} is stored as {dtype:?}; convert the file to F32, F16 or BF16",
        path.display()
    )]
    Dtype {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
        /// The format in the file.
        dtype: Dtype,
    },
    /// libtorch could not take the tensor (most often: memory).
    #[error("cannot copy tensor {name} of {} to {device:?}", path.display())]
    Copy {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
        /// The device.
        device: Device,
        /// What libtorch said.
        #[source]
        source: Box<TchError>,
    },
}

struct Shard {
    path: PathBuf,
    map: Mmap,
}

/// The weight files of one model directory, or weights that are being trained.
pub struct Weights {
    dir: PathBuf,
    shards: Vec<Shard>,
    /// Tensors that are not in files.
    tensors: BTreeMap<String, Tensor>,
    /// What has been asked for, in order, each name once.
    asked: RefCell<Vec<(String, Vec<i64>)>>,
    products: Kind,
    device: Device,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    /// Maps the weight file (or the shards) of a model directory. Tensors will be converted and
    /// copied to `device` as they are asked for: the large matrices to the format `products`,
    /// all else to [`Weights::kind`].
    ///
    /// # Errors
    /// [`WeightsError`] when a file is absent, torn or no safetensors file.
    pub fn open(dir: &Path, products: Kind, device: Device) -> Result<Self, WeightsError> {
        let mut shards = Vec::new();
        for path in weight_files(dir)? {
            let open = |source| WeightsError::Open { path: path.clone(), source };
            let file = File::open(&path).map_err(open)?;
            let length = file.metadata().map_err(open)?.len();
            let format = |source| WeightsError::Format { path: path.clone(), length, source };
            if length < 8 {
                // An empty file cannot be mapped.
                return Err(format(SafeTensorError::HeaderTooSmall));
            }
            #[expect(unsafe_code, reason = "the only way to map a file")]
            // SAFETY: weight files are written once and then only read; downloads are renamed
            // into place, so that a mapped file is never cut short.
            let map = unsafe { Mmap::map(&file) }.map_err(open)?;
            SafeTensors::deserialize(&map).map_err(format)?;
            shards.push(Shard { path, map });
        }
        let (tensors, asked) = (BTreeMap::new(), RefCell::default());
        Ok(Self { dir: dir.to_owned(), shards, tensors, asked, products, device })
    }

    /// Weights that are being trained: tensors as they are, with their gradients' history.
    pub(crate) fn of_tensors(
        tensors: BTreeMap<String, Tensor>,
        products: Kind,
        device: Device,
    ) -> Self {
        let (dir, asked) = (PathBuf::new(), RefCell::default());
        Self { dir, shards: Vec::new(), tensors, asked, products, device }
    }

    /// Names and shapes of all tensors that were asked for so far: the weights of the models
    /// that were built from here.
    pub(crate) fn asked(&self) -> Vec<(String, Vec<i64>)> {
        self.asked.borrow().clone()
    }

    /// The number format of everything but the large matrix products: f32 where those are in a
    /// half precision, else the same.
    pub fn kind(&self) -> Kind {
        match self.products {
            Kind::BFloat16 | Kind::Half => Kind::Float,
            other => other,
        }
    }

    /// The number format of the large matrix products.
    pub fn products(&self) -> Kind {
        self.products
    }

    /// The device that tensors are copied to.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        let holds = |shard: &Shard| {
            SafeTensors::deserialize(&shard.map).is_ok_and(|file| file.tensor(name).is_ok())
        };
        self.tensors.contains_key(name) || self.shards.iter().any(holds)
    }

    /// One tensor by its name in the file, in [`Weights::kind`], without gradient.
    ///
    /// # Errors
    /// [`WeightsError`] when it is absent, of another shape, or of an unknown format.
    pub fn get(&self, name: &str, shape: &[i64]) -> Result<Tensor, WeightsError> {
        self.convert(name, shape, self.kind())
    }

    /// One of the large matrices, in the format of the products, without gradient.
    ///
    /// # Errors
    /// [`WeightsError`] when it is absent, of another shape, or of an unknown format.
    pub fn matrix(&self, name: &str, shape: &[i64]) -> Result<Tensor, WeightsError> {
        self.convert(name, shape, self.products)
    }

    /// Matrices [n, columns] one below the other, in the format of the products. Each is copied
    /// into its place before the next one is read: no second copy of the whole exists.
    ///
    /// # Errors
    /// [`WeightsError`] when one is absent, of another shape, or of an unknown format.
    pub fn stacked(&self, parts: &[(String, i64)], columns: i64) -> Result<Tensor, WeightsError> {
        let names: Vec<&str> = parts.iter().map(|(name, _)| name.as_str()).collect();
        let fail = |source| self.copy_failed(&names.join(", "), source);
        let rows: i64 = parts.iter().map(|(_, rows)| rows).sum();
        let whole = Tensor::f_empty([rows, columns], (self.products, self.device)).map_err(fail)?;
        let mut first = 0;
        for (name, rows) in parts {
            let place = whole.f_narrow(0, first, *rows).map_err(fail)?;
            self.fill(name, &[*rows, columns], place)?;
            first += rows;
        }
        Ok(whole)
    }

    fn convert(&self, name: &str, shape: &[i64], kind: Kind) -> Result<Tensor, WeightsError> {
        if let Some(tensor) = self.tensors.get(name).filter(|tensor| tensor.size() == shape) {
            return tensor.f_to_kind(kind).map_err(|source| self.copy_failed(name, source));
        }
        let place = Tensor::f_empty(shape, (kind, self.device))
            .map_err(|source| self.copy_failed(name, source))?;
        self.fill(name, shape, place.shallow_clone())?;
        Ok(place)
    }

    /// Copies a tensor to its place, converted on the way.
    fn fill(&self, name: &str, shape: &[i64], mut place: Tensor) -> Result<(), WeightsError> {
        if self.asked.borrow().iter().all(|(known, _)| known != name) {
            self.asked.borrow_mut().push((name.to_owned(), shape.to_vec()));
        }
        if let Some(tensor) = self.tensors.get(name).filter(|tensor| tensor.size() == shape) {
            return place.f_copy_(tensor).map_err(|source| self.copy_failed(name, source));
        }
        for shard in &self.shards {
            let length = shard.map.len() as u64;
            let file = SafeTensors::deserialize(&shard.map).map_err(|source| {
                WeightsError::Format { path: shard.path.clone(), length, source }
            })?;
            let Ok(view) = file.tensor(name) else { continue };
            let found: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
            if found != shape {
                return Err(WeightsError::Shape {
                    path: shard.path.clone(),
                    name: name.to_owned(),
                    found,
                    expected: shape.to_vec(),
                });
            }
            let stored = kind_of(view.dtype()).ok_or_else(|| WeightsError::Dtype {
                path: shard.path.clone(),
                name: name.to_owned(),
                dtype: view.dtype(),
            })?;
            return in_place(view.data(), &found, stored)
                .and_then(|tensor| place.f_copy_(&tensor))
                .map_err(|source| self.copy_failed(name, source));
        }
        let (path, name) = (self.path(), name.to_owned());
        Err(WeightsError::MissingTensor { path, name, expected: shape.to_vec() })
    }

    /// The error of a tensor that was read, but could not be copied or laid out.
    pub(crate) fn copy_failed(&self, name: &str, source: TchError) -> WeightsError {
        let (path, name) = (self.path(), name.to_owned());
        WeightsError::Copy { path, name, device: self.device, source: Box::new(source) }
    }

    fn path(&self) -> PathBuf {
        match self.shards.as_slice() {
            [only] => only.path.clone(),
            _ => self.dir.clone(),
        }
    }
}

/// Bytes of a file as a tensor that must not outlive them: without a copy where they lie as
/// libtorch needs them. Copies that are freed at once would stay in the allocator's hands.
fn in_place(bytes: &[u8], shape: &[i64], kind: Kind) -> Result<Tensor, TchError> {
    if !bytes.as_ptr().addr().is_multiple_of(kind.elt_size_in_bytes()) {
        return Tensor::f_from_data_size(bytes, shape, kind);
    }
    let mut strides = vec![1; shape.len()];
    for place in (1..shape.len()).rev() {
        strides[place - 1] = strides[place] * shape[place];
    }
    #[expect(unsafe_code, reason = "libtorch is to read the mapped file itself")]
    // SAFETY: safetensors has checked that `bytes` has exactly this shape's numbers; the caller
    // copies from the tensor while the file is mapped, and never writes to it.
    unsafe {
        Tensor::f_from_blob(bytes.as_ptr(), shape, &strides, kind, Device::Cpu)
    }
}

/// The files of a model directory: the single file, or what the index lists, in its order.
pub(crate) fn weight_files(dir: &Path) -> Result<Vec<PathBuf>, WeightsError> {
    let single = dir.join(MODEL_FILE);
    if single.exists() {
        return Ok(vec![single]);
    }
    let path = dir.join(INDEX_FILE);
    if !path.exists() {
        let hint = if dir.join("pytorch_model.bin").exists() {
            "pytorch_model.bin is a pickle file and is never read: save the model again with \
             safe_serialization=True"
        } else {
            "point to a directory that holds a model's config.json and model.safetensors"
        };
        return Err(WeightsError::NoFile { dir: dir.to_owned(), hint });
    }
    let text = std::fs::read_to_string(&path)
        .map_err(|source| WeightsError::Open { path: path.clone(), source })?;
    let index: Index = serde_json::from_str(&text)
        .map_err(|source| WeightsError::Index { path: path.clone(), source })?;
    let mut names: Vec<&String> = index.weight_map.values().collect();
    names.sort_unstable();
    names.dedup();
    let mut files = Vec::new();
    for name in names {
        if Path::new(name).file_name() != Some(name.as_ref()) {
            return Err(WeightsError::IndexPath { path, name: name.clone() });
        }
        files.push(dir.join(name));
    }
    Ok(files)
}

/// libtorch's name of a floating-point format of safetensors.
pub(crate) fn kind_of(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F64 => Some(Kind::Double),
        Dtype::F32 => Some(Kind::Float),
        Dtype::F16 => Some(Kind::Half),
        Dtype::BF16 => Some(Kind::BFloat16),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::to_bytes;

    fn write(path: &Path, tensors: &[(&str, Tensor)]) {
        let named: Vec<_> = tensors.iter().map(|(name, t)| ((*name).to_owned(), t)).collect();
        std::fs::write(path, to_bytes(&named, None).unwrap()).unwrap();
    }

    fn open(dir: &Path) -> Result<Weights, WeightsError> {
        Weights::open(dir, Kind::Float, Device::Cpu)
    }

    fn values() -> Tensor {
        Tensor::from_slice(&[1.0f32, -2.5, 3.0, 0.0, 0.5, 8.0]).view([2, 3])
    }

    #[test]
    fn half_precision_is_widened_and_unused_tensors_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(MODEL_FILE);
        let unused = Tensor::zeros([1], (Kind::Double, Device::Cpu));
        let tensors = [
            ("bf16", values().to_kind(Kind::BFloat16)),
            ("fp16", values().to_kind(Kind::Half)),
            ("encoder.embed_tokens.weight", unused),
        ];
        write(&path, &tensors);
        let weights = open(dir.path()).unwrap();
        for name in ["bf16", "fp16"] {
            let tensor = weights.get(name, &[2, 3]).unwrap();
            assert_eq!(tensor.kind(), Kind::Float);
            assert!(tensor.equal(&values()) && !tensor.requires_grad());
        }
    }

    #[test]
    fn problems_name_file_tensor_and_shape() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(MODEL_FILE);
        write(&path, &[("shared.weight", values())]);
        let weights = open(dir.path()).unwrap();
        let error = weights.get("lm_head.weight", &[2, 3]).unwrap_err().to_string();
        for part in [path.to_str().unwrap(), "lm_head.weight", "[2, 3]", "config.json"] {
            assert!(error.contains(part), "{error}");
        }
        let error = weights.get("shared.weight", &[3, 2]).unwrap_err().to_string();
        assert!(error.contains("[2, 3]") && error.contains("[3, 2]"), "{error}");
    }

    #[test]
    fn torn_absent_and_pickled_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(MODEL_FILE);
        assert!(matches!(open(dir.path()), Err(WeightsError::NoFile { .. })));
        std::fs::write(dir.path().join("pytorch_model.bin"), b"pickle").unwrap();
        let error = open(dir.path()).err().unwrap().to_string();
        assert!(error.contains("safe_serialization"), "{error}");

        write(&path, &[("shared.weight", values())]);
        let whole = std::fs::read(&path).unwrap();
        for length in [0, 5, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = open(dir.path()).err().unwrap();
            assert!(matches!(error, WeightsError::Format { .. }), "{length}: {error}");
            assert!(error.to_string().contains(&format!("{length} bytes")), "{error}");
        }
    }

    #[test]
    fn shards_are_found_by_their_index() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("a.safetensors"), &[("one", values())]);
        write(&dir.path().join("b.safetensors"), &[("two", values() * 2)]);
        let index = |file: &str| {
            let map = format!(r#"{{"weight_map":{{"one":"a.safetensors","two":"{file}"}}}}"#);
            std::fs::write(dir.path().join(INDEX_FILE), map).unwrap();
        };
        index("b.safetensors");
        let weights = open(dir.path()).unwrap();
        assert!(weights.get("two", &[2, 3]).unwrap().equal(&(values() * 2)));
        index("../b.safetensors");
        assert!(matches!(open(dir.path()), Err(WeightsError::IndexPath { .. })));
    }
}
