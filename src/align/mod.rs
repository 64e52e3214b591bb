//! The main job: two or more modalities' stored features in, a trained alignment and its retrieval scores out.
//!
//! Linear heads project the modalities into one space, rows of length one; the symmetric InfoNCE loss pulls the two
//! sides of each row together and apart from the others of its batch (CLIP, Radford et al., 2021), and is summed over all pairs
//! of modalities where there are more than two.
//!
//! ```
//! use crossmodal::{Device, align::{Data, Recipe, Split, Trainer}, io::Features};
//! // Two views of the same 40 hidden points.
//! let view = |f: fn(f32) -> f32| Features { rows: 40, cols: 3, values: (0..120).map(|i| f(i as f32)).collect() };
//! let data = Data::new(view(|i| (i * 0.7).sin()), view(|i| (i * 0.7).cos()), Split::random(40, 0)?)?;
//! let recipe = Recipe { dim: 4, epochs: 2, batch_size: 8, ..Recipe::default() };
//! let mut trainer = Trainer::new(&Device::Cpu, &data, &recipe)?;
//! while !trainer.is_done() {
//!     let report = trainer.epoch()?;
//!     println!("loss {:.3}, R@1 {:.1} %", report.loss, report.validation.left_to_right.recall_at_1);
//! }
//! let heads = trainer.best()?;
//! assert_eq!(heads.of("left")?.project(&Device::Cpu, data.of("left")?)?.cols, 4);
//! # Ok::<(), crossmodal::Error>(())
//! ```

mod cache;
mod checkpoint;
mod closed_form;
mod correct;
mod data;
mod gradient_cache;
mod heads;
mod matching;
mod network;
mod objective;
mod recipe;
mod retrieval;
mod search;
mod side;
mod similarity;
mod standardise;
mod trainer;

pub use cache::Cache;
pub use checkpoint::Checkpoint;
pub use closed_form::{ClosedFit, ClosedForm, Tried, closed_form};
pub use correct::Correct;
pub(crate) use correct::Labels;
pub use data::{Data, Modality, Split, pairs};
pub use heads::{Head, Heads};
pub(crate) use matching::sides;
pub use matching::{BINS, Matching, cosines, matching};
pub use network::HeadWeights;
pub use objective::Objective;
pub use recipe::{HeadKind, Recipe, Scaling};
pub use retrieval::{Retrieval, Scores, ranks, retrieval};
pub use search::{Hits, Search, SearchOptions, Similarity, search};
pub(crate) use similarity::{COLS, ROWS, UnitRows, check as check_features, check_widths, pieces};
pub use standardise::Standardisation;
pub use trainer::{EpochReport, Trainer};
