//! DePT (Decomposed Prompt Tuning, arXiv 2309.05173), prompt tuning, LoRA and full fine-tuning on
//! T5, GPT-2 and Llama models, with libtorch.
//!
//! DePT trains a short prompt P [m, d] and a low-rank pair A [s, r], B [r, d] on a frozen model
//! with hidden size d. An input of L ≤ s tokens with the embeddings E [L, d] enters the model as
//!
//! ```text
//! [P ; E + (8/√r) · (A B)[0..L]]        m + L positions
//! ```
//!
//! P learns with the rate α1 (`prompt_lr`), A and B with α2 (`lowrank_lr`): m·d + r·(s + d)
//! numbers in all, beside which the model stays as it is.
//!
//! - [`Model`] loads a directory as Hugging Face lays it out.
//! - [`Pack`] trains K trials fused on one model: [`Pack::step`] makes an update,
//!   [`Pack::evaluate`] gives loss and answers, [`Pack::state`] and [`Pack::resume`] carry a run
//!   over to another process, bit for bit.
//! - [`method`] holds start values and the layout of parameters, [`optim`] and [`schedule`] the
//!   updates, [`dropout`] the masks, [`checkpoint`] and [`tensors`] the files.
//! - [`mod@run`] is the child process that deptune's agents spawn, built from these parts.
//!
//! # The method in formulas
//!
//! As the authors' code has it; where deptune's own recipe differs, that is said.
//!
//! | what | formula | where |
//! |---|---|---|
//! | start | P = the embeddings of [a fixed text](tokenize::INIT_TEXT), repeated to m rows; A uniform in ±1/√r; B = 0 | [`method::initial`] |
//! | offset | 8/√r · A B, row i at token i of the text, the prompt not counted | [`method::scaling`] |
//! | T5 | the encoder reads [P ; E + offset] at the positions 0 to m+L-1 of its relative bias; padding is a masked key, so neither it nor its rows of A count | [`Pack::encode`] |
//! | decoders | the reference pads on the left, so that a text meets the *last* rows of A, and counts padding as positions in training though not in generation; deptune's own recipe counts real tokens alone, in both alike | [`Settings::recipe`](pack::Settings::recipe) |
//! | loss | mean of -log p(token) over the label tokens of a batch, the end token included; with accumulation, the mean of the micro-batches' means | [`Pack::step`], [`StepReport`] |
//! | dropout | everywhere that the model has it, prompt and offset included, in training alone; the masks are functions of seed, step and place | [`dropout`] |
//! | clipping | g·min(1, c/(‖g‖ + 10⁻⁶)), ‖g‖ over P, A and B together | [`optim`] |
//! | schedule | update k of T: (k-1)/w while k-1 < w, then (T-k+1)/(T-w), for both rates; the first update moves nothing | [`schedule`] |
//! | update | AdamW with β = (0.9, 0.999): p -= α·√(1-β₂ᵗ)/(1-β₁ᵗ) · m/(√v + 10⁻⁶), ε added before the bias correction | [`optim`] |
//! | answer | greedy, token by token, up to the end token; of equally good evaluations the first counts | [`Pack::evaluate`], [`evaluate`] |
//!
//! # Training a prompt
//!
//! ```
//! use std::{path::Path, rc::Rc};
//!
//! use deptune_trainer::tokenize::{INIT_TEXT, Tokenizer};
//! use deptune_trainer::{Batch, Example, Member, Method, Model, Pack, Settings};
//! use tch::{Device, Kind};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = Path::new("../../examples/quickstart/model");
//! let model = Rc::new(Model::load(dir, Kind::Float, Device::Cpu)?);
//! let file = dir.join("tokenizer.json");
//! let tokenizer = Tokenizer::open(&file, model.config(), Default::default(), 64)?;
//! let mut batch = Batch::default();
//! for (text, label) in [("a delight from start to end", "1"), ("a dull waste of time", "0")] {
//!     let input_ids = tokenizer.input(&format!("sentence: {text}"))?;
//!     batch.examples.push(Example { input_ids, labels: tokenizer.target(label)? });
//! }
//! let method = Method::Dept { prompt_length: 8, rank: 4 };
//! let trial = Member::prompt(method, 0.3, 5e-3, 42);
//! let settings = Settings { steps: 20, warmup_steps: 2, max_length: 64, ..Settings::default() };
//! let start = tokenizer.target(INIT_TEXT)?;
//! let mut pack = Pack::new(model, vec![trial], settings, &start)?;
//! let before = pack.eval_loss(&batch)?[0];
//! for _ in 0..20 {
//!     pack.step(std::slice::from_ref(&batch))?;
//! }
//! assert!(pack.eval_loss(&batch)?[0] < before);
//! let adapter = pack.parameters(0)?.to_bytes()?; // a safetensors file
//! assert!(!adapter.is_empty());
//! # Ok(())
//! # }
//! ```

#![deny(missing_docs)]

pub mod answer;
pub mod batch;
pub mod checkpoint;
mod collate;
mod cuda;
pub mod data;
pub mod dropout;
mod engine;
pub mod evaluate;
pub mod generate;
mod gpu;
pub mod measure;
mod memory;
pub mod method;
pub mod model;
pub mod optim;
pub mod order;
pub mod pack;
pub mod run;
pub mod schedule;
pub mod score;
pub mod tensors;
pub mod tokenize;
pub mod weights;

pub use batch::{Batch, Example, Padding};
pub use checkpoint::{Checkpoint, Identity};
pub use cuda::load_cuda;
pub use method::{Adapter, LowRank, Method, PromptInit};
pub use model::Model;
pub use optim::Optimizer;
pub use pack::{Backward, Member, Pack, Settings, StepReport, TrialState};
