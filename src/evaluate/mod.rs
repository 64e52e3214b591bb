//! What embeddings are good for, beyond [retrieval](crate::align::matching()).
//!
//! [`zero_shot`] classifies by prompts, [`knn`] by neighbours, [`cache_model`] by both, [`linear_probe`] by logistic regression;
//! [`alignment`], [`uniformity`] and [`modality_gap`] describe how embeddings lie (Wang and Isola, 2020; Liang et al., 2022).
//! Similarity is the cosine; every answer is the same on any number of threads.
//!
//! ```
//! use crossmodal::{evaluate::{Labelled, zero_shot}, io::Features};
//! let features = |values: &[f32]| Features { rows: values.len() / 2, cols: 2, values: values.to_vec() };
//! // Two prompts for class 3, one for class 8.
//! let prompts = features(&[1., 0.2, 1., -0.2, 0., 1.]);
//! let images = features(&[2., 0., 0., 1., 0.6, 0.8]);
//! let scores = zero_shot(
//!     &Labelled { features: &images, labels: &[3, 8, 3] },
//!     &Labelled { features: &prompts, labels: &[3, 3, 8] },
//! )?;
//! assert!((scores.top_1 - 200. / 3.).abs() < 1e-9); // the last is nearer to class 8
//! assert_eq!(scores.mean_per_class, 75.); // 1 of 2 and 1 of 1
//! # Ok::<(), crossmodal::Error>(())
//! ```

mod cache_model;
mod class_vectors;
mod classification;
mod geometry;
mod knn;
mod lbfgs;
mod logistic;
mod probe;
mod zero_shot;

pub use cache_model::{CacheModel, CacheScores, cache_model};
pub use classification::{Classification, Labelled};
pub use geometry::{alignment, modality_gap, uniformity};
pub use knn::{Knn, knn};
pub(crate) use lbfgs::{Stop, minimise};
pub use logistic::Logistic;
pub use probe::{Probe, ProbeScores, linear_probe};
pub use zero_shot::zero_shot;
