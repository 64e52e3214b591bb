//! What is run: `shapes.json`, which `peers.py` reads too.

use clap::ValueEnum;
use serde::Deserialize;

const SHAPES: &str = include_str!("../shapes.json");

/// One problem.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Shape {
    pub name: String,
    /// What it is averaged with.
    pub class: String,
    /// 1 before 2 before 3, where there is not time for all.
    pub priority: u32,
    /// The work of the formula in 10⁹ floating-point operations, whatever an implementation does beyond it.
    pub gflop: f64,
    /// In which arithmetic ours computes; a peer's stands in its name.
    #[serde(default)]
    pub ours: Arithmetic,
    #[serde(flatten)]
    pub work: Work,
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Arithmetic {
    /// Strict f32.
    #[default]
    F32,
    /// f16 stored, sums in f32.
    F16,
    /// f32 in two parts of f16 where the device has matrix units.
    Fast,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Work {
    Matmul(Product),
    InfoNce(Pairs),
    Attention(Heads),
}

/// `[batch, m, k]` by `[batch, k, n]`, one of them perhaps stored the other way round.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Product {
    pub batch: usize,
    pub m: usize,
    pub k: usize,
    pub n: usize,
    pub transpose: Transpose,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Transpose {
    None,
    A,
    B,
}

/// n rows of width d against n others: the symmetric loss and the gradients of x, y and the scale.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Pairs {
    pub n: usize,
    pub d: usize,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Heads {
    pub backward: bool,
    pub batch: usize,
    pub heads: usize,
    pub queries: usize,
    pub keys: usize,
    pub width: usize,
}

/// As the shapes name it.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Op {
    Matmul,
    InfoNce,
    Attention,
}

impl Work {
    pub(crate) fn op(&self) -> Op {
        match self {
            Work::Matmul(_) => Op::Matmul,
            Work::InfoNce(_) => Op::InfoNce,
            Work::Attention(_) => Op::Attention,
        }
    }
}

/// All of them, in the file's order.
pub(crate) fn read() -> Vec<Shape> {
    serde_json::from_str(SHAPES).expect("shapes.json is part of the program, and a test reads it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_that_of_the_formulas_and_names_are_unique() {
        let shapes = read();
        for shape in &shapes {
            let flop = match shape.work {
                Work::Matmul(p) => 2 * p.batch * p.m * p.k * p.n,
                // Three products: the logits and two gradients.
                Work::InfoNce(p) => 6 * p.n * p.n * p.d,
                // Two products forward and five backward, which makes the scores again.
                Work::Attention(h) => {
                    let products = if h.backward { 7 } else { 2 };
                    2 * products * h.batch * h.heads * h.queries * h.keys * h.width
                }
            };
            assert!((shape.gflop - flop as f64 * 1e-9).abs() < 1e-6, "{}: {flop}", shape.name);
            assert_eq!(shapes.iter().filter(|other| other.name == shape.name).count(), 1, "{}", shape.name);
        }
    }
}
