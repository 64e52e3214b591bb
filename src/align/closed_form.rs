//! Heads without training: linear maps that a formula gives, their one number chosen on the validation rows.

use super::cache::Cache;
use super::data::{Data, Modality};
use super::heads::{Head, Heads};
use super::network::HeadWeights;
use super::recipe::Scaling;
use super::retrieval::{Retrieval, retrieval};
use super::side::standardisation;
use super::standardise::Standardisation;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::io::Features;
use faer::linalg::matmul::matmul;
use faer::linalg::triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place};
use faer::{Accum, Mat, MatRef, Par, Side};

/// Which formula. X and Y are the scaled training rows, n of them; `S_xx = XᵀX/n` and so on.
///
/// ```
/// use crossmodal::align::ClosedForm;
/// assert_eq!("cca".parse(), Ok(ClosedForm::Cca));
/// assert_eq!(ClosedForm::Ridge.to_string(), "ridge");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClosedForm {
    /// Left features into the right space by ridge regression: `W = (S_xx + λI)⁻¹ S_xy`; the right features stay as they are.
    Ridge,
    /// The rotations that bring both closest (Schönemann, 1966): the singular vectors of `S_xy`.
    Procrustes,
    /// Canonical correlation analysis (Hotelling, 1936) with `λI` added to both covariances, each pair of directions weighted
    /// by its correlation to the power ¾.
    Cca,
    /// That space, and training pairs that the left head remembers: a [`Cache`], its α and β chosen on the validation rows too.
    Cache,
}

impl std::fmt::Display for ClosedForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ClosedForm::Ridge => "ridge",
            ClosedForm::Procrustes => "procrustes",
            ClosedForm::Cca => "cca",
            ClosedForm::Cache => "cache",
        })
    }
}

impl std::str::FromStr for ClosedForm {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "ridge" => Ok(ClosedForm::Ridge),
            "procrustes" => Ok(ClosedForm::Procrustes),
            "cca" => Ok(ClosedForm::Cca),
            "cache" => Ok(ClosedForm::Cache),
            _ => Err(format!("expected ridge, procrustes, cca or cache, got {text}")),
        }
    }
}

/// What [`closed_form`] tried.
/// Example: [`closed_form`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tried {
    /// λ, 0 for a formula without.
    pub strength: f64,
    /// α and β of a [`Cache`].
    pub cache: Option<(f64, f64)>,
    /// Scores on the validation rows.
    pub validation: Retrieval,
}

/// What [`closed_form`] found.
/// Example: [`closed_form`].
#[derive(Debug, Clone, PartialEq)]
pub struct ClosedFit {
    /// The heads; their epoch is 0.
    pub heads: Heads,
    /// Everything that was tried: λ from strong to weak, then every α and β of a cache with the best of them.
    pub tried: Vec<Tried>,
    /// Which of them the heads are: the best mean recall at 10, of equals the first.
    pub best: usize,
}

/// How strongly correlated directions count.
const POWER: f64 = 0.75;
/// Rows that are widened to f64 at once.
const ROWS: usize = 4096;

/// Fits the heads of two modalities by a formula, in f64, on the host: the same bits whatever device or threads there are. `dim` is
/// the width of the shared space at most: no more than the narrower modality has directions in which the training rows vary, and for
/// ridge always the right one's width. Of further views every pair counts; a cache remembers the first ones.
///
/// Errors: more modalities than two; classes, since every row has one partner here; no dimensions; features that the scaling makes
/// infinite; a matrix that is not positive definite.
///
/// ```
/// use crossmodal::{align::{ClosedForm, Data, Scaling, Split, closed_form}, io::Features};
/// let view = |f: fn(f32) -> f32| Features { rows: 40, cols: 3, values: (0..120).map(|i| f(i as f32)).collect() };
/// let data = Data::new(view(|i| (i * 0.7).sin()), view(|i| -(i * 0.7).sin()), Split::random(40, 0)?)?;
/// let fit = closed_form(&data, ClosedForm::Cca, Scaling::Modality, 3)?;
/// assert_eq!(fit.tried[fit.best].validation.left_to_right.recall_at_1, 100.); // one side is the other turned round
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn closed_form(data: &Data, kind: ClosedForm, scaling: Scaling, dim: usize) -> Result<ClosedFit> {
    let [left, right] = &data.modalities[..] else {
        let got = data.modalities.len();
        return Err(Error::argument("align", "modalities", format!("two for heads by {kind}"), got));
    };
    if data.classes.is_some() {
        let expected = format!("none for heads by {kind}, in which every row has one partner");
        return Err(Error::argument("align", "classes", expected, "some"));
    }
    if dim == 0 {
        return Err(Error::argument("align", "dim", "at least 1", 0));
    }
    let pair = [left, right];
    let scales = pair.map(|modality| standardisation(modality, &data.split.train, scaling));
    let moments = Moments::of(pair, &data.split.train, &scales)?;
    let of_kind = if kind == ClosedForm::Cache { ClosedForm::Cca } else { kind };
    let linear = strengths(kind)
        .into_iter()
        .map(|strength| Ok((strength, None, heads(pair, &scales, moments.maps(of_kind, strength, dim)?))));
    let fit = best_of(pair, &data.split.validation, linear)?;
    if kind != ClosedForm::Cache {
        return Ok(fit);
    }
    let strength = fit.tried[fit.best].strength;
    let train = |side: usize| {
        fit.heads.heads[side].project(&Device::Cpu, &pair[side].features.select(&data.split.train)?)
    };
    let (keys, values) = (train(0)?.values, train(1)?.values);
    let remembering = cache_grid().map(|(alpha, beta)| {
        let mut heads = fit.heads.clone();
        heads.heads[0].cache = Some(Cache { keys: keys.clone(), values: values.clone(), alpha, beta });
        Ok((strength, Some((alpha, beta)), heads))
    });
    let cached = best_of(pair, &data.split.validation, remembering)?;
    let best = fit.tried.len() + cached.best;
    Ok(ClosedFit { heads: cached.heads, tried: [fit.tried, cached.tried].concat(), best })
}

/// Scores each on the validation rows.
fn best_of(
    pair: [&Modality; 2],
    validation: &[u32],
    all: impl Iterator<Item = Result<(f64, Option<(f64, f64)>, Heads)>>,
) -> Result<ClosedFit> {
    let rows = [pair[0].features.select(validation)?, pair[1].features.select(validation)?];
    let mut tried: Vec<Tried> = vec![];
    let mut best: Option<(f64, usize, Heads)> = None;
    for each in all {
        let (strength, cache, heads) = each?;
        let project = |side: usize| heads.heads[side].project(&Device::Cpu, &rows[side]);
        let validation = retrieval(&project(0)?, &project(1)?)?;
        let score = validation.mean_recall_at_10();
        if best.as_ref().is_none_or(|(best, ..)| score > *best) {
            best = Some((score, tried.len(), heads));
        }
        tried.push(Tried { strength, cache, validation });
    }
    let (_, best, heads) = best.expect("at least one was tried");
    Ok(ClosedFit { heads, tried, best })
}

/// α and β to be tried.
fn cache_grid() -> impl Iterator<Item = (f64, f64)> {
    let alphas = [0.01, 0.03, 0.1, 0.3, 1., 3.];
    alphas.into_iter().flat_map(|alpha| [2., 4., 8., 16., 32.].map(|beta| (alpha, beta)))
}

/// The λ to be tried, from strong to weak, in units of the mean variance where features are scaled to that.
fn strengths(kind: ClosedForm) -> Vec<f64> {
    match kind {
        ClosedForm::Procrustes => vec![0.],
        // Half decades, then halves.
        ClosedForm::Ridge => (-6..=6).rev().map(|e| 10f64.powf(0.5 * f64::from(e))).collect(),
        ClosedForm::Cca | ClosedForm::Cache => (-7..=3).rev().map(|e| 2f64.powi(e)).collect(),
    }
}

/// Covariances of the scaled training rows.
struct Moments {
    xx: Mat<f64>,
    yy: Mat<f64>,
    xy: Mat<f64>,
}

/// Left and right map of scaled features; none where they stay as they are.
type Maps = (Mat<f64>, Option<Mat<f64>>);

impl Moments {
    /// Of every view of one with every view of the other.
    fn of(pair: [&Modality; 2], train: &[u32], scales: &[Standardisation; 2]) -> Result<Moments> {
        let [d, e] = pair.map(|modality| modality.features.cols);
        let mut moments = Moments { xx: Mat::zeros(d, d), yy: Mat::zeros(e, e), xy: Mat::zeros(d, e) };
        let views = pair.map(|modality| 1 + modality.views.len());
        let weight = 1. / (train.len() * views[0] * views[1]) as f64;
        for rows in train.chunks(ROWS) {
            let scaled = |side: usize| -> Result<Vec<Mat<f64>>> {
                pair[side].all().map(|view| widened(pair[side], view, rows, &scales[side])).collect()
            };
            let (of_x, of_y) = (scaled(0)?, scaled(1)?);
            for (x, y) in of_x.iter().flat_map(|x| of_y.iter().map(move |y| (x, y))) {
                for (sum, a, b) in [(&mut moments.xx, x, x), (&mut moments.yy, y, y), (&mut moments.xy, x, y)]
                {
                    matmul(sum.as_mut(), Accum::Add, a.transpose(), b.as_ref(), weight, Par::Seq);
                }
            }
        }
        Ok(moments)
    }

    fn maps(&self, kind: ClosedForm, strength: f64, dim: usize) -> Result<Maps> {
        match kind {
            ClosedForm::Ridge => {
                let root = cholesky(&self.xx, strength)?;
                let mut map = self.xy.clone();
                solve_lower_triangular_in_place(root.as_ref(), map.as_mut(), Par::Seq);
                solve_upper_triangular_in_place(root.transpose(), map.as_mut(), Par::Seq);
                Ok((map, None))
            }
            ClosedForm::Procrustes => {
                let (u, _, v) = singular(&self.xy, dim)?;
                Ok((u, Some(v)))
            }
            ClosedForm::Cca | ClosedForm::Cache => {
                let (of_x, of_y) = (cholesky(&self.xx, strength)?, cholesky(&self.yy, strength)?);
                // Lx⁻¹ S_xy Ly⁻ᵀ
                let mut whitened = self.xy.clone();
                solve_lower_triangular_in_place(of_x.as_ref(), whitened.as_mut(), Par::Seq);
                solve_lower_triangular_in_place(of_y.as_ref(), whitened.as_mut().transpose_mut(), Par::Seq);
                let (mut u, s, mut v) = singular(&whitened, dim)?;
                for (root, map) in [(&of_x, &mut u), (&of_y, &mut v)] {
                    solve_upper_triangular_in_place(root.transpose(), map.as_mut(), Par::Seq);
                    scale_columns(map, &s.iter().map(|s| s.powf(POWER)).collect::<Vec<_>>());
                }
                Ok((u, Some(v)))
            }
        }
    }
}

/// Rows of a view, scaled, in f64.
fn widened(modality: &Modality, view: &Features, rows: &[u32], scale: &Standardisation) -> Result<Mat<f64>> {
    let values = scale.apply(&view.select(rows)?.values);
    if let Some(at) = values.iter().position(|v| !v.is_finite()) {
        let expected = "features that stay finite when scaled on the training rows";
        let got = format!("row {}, column {}", rows[at / view.cols], at % view.cols);
        return Err(Error::argument("align", modality.argument(), expected, got));
    }
    Ok(Mat::from_fn(rows.len(), view.cols, |i, j| f64::from(values[i * view.cols + j])))
}

fn scale_columns(map: &mut Mat<f64>, factors: &[f64]) {
    for (j, factor) in factors.iter().enumerate() {
        for i in 0..map.nrows() {
            map[(i, j)] *= factor;
        }
    }
}

/// The lower root of a covariance with `λI` added.
fn cholesky(covariance: &Mat<f64>, strength: f64) -> Result<Mat<f64>> {
    let mut shifted = covariance.clone();
    (0..shifted.nrows()).for_each(|i| shifted[(i, i)] += strength);
    let expected = "features whose covariance has a Cholesky factorisation";
    let root = shifted.llt(Side::Lower).map_err(|error| {
        Error::argument("align", "features", expected, format!("{error:?} with λ = {strength}"))
    })?;
    Ok(root.L().to_owned())
}

/// The first singular vectors, by the smaller Gram matrix, each with its largest element positive; and their values.
fn singular(matrix: &Mat<f64>, dim: usize) -> Result<(Mat<f64>, Vec<f64>, Mat<f64>)> {
    let tall = matrix.nrows() >= matrix.ncols();
    let own: MatRef<'_, f64> = if tall { matrix.as_ref() } else { matrix.transpose() };
    let size = own.ncols();
    let mut gram = Mat::zeros(size, size);
    matmul(gram.as_mut(), Accum::Replace, own.transpose(), own, 1., Par::Seq);
    let eigen = gram.self_adjoint_eigen(Side::Lower);
    let eigen = eigen.map_err(|error| {
        Error::argument("align", "features", "a covariance with eigenvectors", format!("{error:?}"))
    })?;
    // From the largest on: they come in ascending order. What is left of directions in which nothing varies is rounding: the
    // Gram matrix holds values down to 1e-8 of the largest.
    let value = |j: usize| eigen.S().column_vector()[size - 1 - j].max(0.).sqrt();
    let count = (0..dim.min(size)).take_while(|&j| value(j) > 1e-7 * value(0)).count().max(1);
    let vectors = Mat::from_fn(size, count, |i, j| eigen.U()[(i, size - 1 - j)]);
    let signs: Vec<f64> = (0..count)
        .map(|j| {
            let largest =
                (0..size).map(|i| vectors[(i, j)]).fold(0f64, |a, b| if b.abs() > a.abs() { b } else { a });
            if largest < 0. { -1. } else { 1. }
        })
        .collect();
    let mut narrow = vectors;
    scale_columns(&mut narrow, &signs);
    let values: Vec<f64> = (0..count).map(value).collect();
    let mut wide = Mat::zeros(own.nrows(), count);
    matmul(wide.as_mut(), Accum::Replace, own, narrow.as_ref(), 1., Par::Seq);
    scale_columns(&mut wide, &values.iter().map(|s| 1. / s.max(1e-12)).collect::<Vec<_>>());
    Ok(if tall { (wide, values, narrow) } else { (narrow, values, wide) })
}

fn heads(pair: [&Modality; 2], scales: &[Standardisation; 2], (left, right): Maps) -> Heads {
    let dim = left.ncols();
    let head = |side: usize, map: Option<&Mat<f64>>| {
        let inputs = pair[side].features.cols;
        let layer = |map: &Mat<f64>| {
            // Of one size whatever λ is: lengths do not matter, and f32 holds them best around 1.
            let length = (0..inputs * dim).map(|at| map[(at / dim, at % dim)].powi(2)).sum::<f64>().sqrt();
            let factor = (dim as f64).sqrt() / length.max(f64::MIN_POSITIVE);
            let weight = (0..inputs * dim).map(|at| (factor * map[(at / dim, at % dim)]) as f32).collect();
            HeadWeights { weight, bias: vec![0.; dim] }
        };
        let (standardisation, layers) = (scales[side].clone(), map.map(layer).into_iter().collect());
        let (name, source) = (pair[side].name.clone(), String::new());
        Head { name, source, inputs, dim, standardisation, layers, residual: None, cache: None }
    };
    let heads = vec![head(0, Some(&left)), head(1, right.as_ref())];
    Heads { heads, log_scale: (1f64 / 0.07).ln(), epoch: 0 }
}
