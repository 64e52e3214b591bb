//! Made-up inputs, the same for every side: never zeros, which some devices multiply faster.

use crate::shapes::{Heads, Pairs, Product, Transpose, Work};

/// Host data of one input.
pub(crate) struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// a and b; x, y and the logarithm of the scale; q, k, v and the upstream gradient.
pub(crate) fn inputs(work: &Work) -> Vec<Array> {
    match work {
        Work::Matmul(product) => matmul(product),
        Work::InfoNce(Pairs { n, d }) => {
            let temperature = Array { shape: vec![], values: vec![(1f32 / 0.07).ln()] };
            vec![unit_rows(1, *n, *d), unit_rows(2, *n, *d), temperature]
        }
        Work::Attention(Heads { batch, heads, queries, keys, width, .. }) => {
            let lengths = [queries, keys, keys, queries];
            let of = |(seed, length): (usize, &&usize)| uniform(seed, &[*batch, *heads, **length, *width]);
            lengths.iter().enumerate().map(of).collect()
        }
    }
}

fn matmul(&Product { batch, m, k, n, transpose }: &Product) -> Vec<Array> {
    let a = if transpose == Transpose::A { [k, m] } else { [m, k] };
    let b = if transpose == Transpose::B { [n, k] } else { [k, n] };
    // One matrix is no batch: a library may choose another way for those.
    let shape =
        |matrix: [usize; 2]| if batch == 1 { matrix.to_vec() } else { vec![batch, matrix[0], matrix[1]] };
    vec![uniform(1, &shape(a)), uniform(2, &shape(b))]
}

/// Numbers in −1 to 1, by a counter that is scrambled.
fn uniform(seed: usize, shape: &[usize]) -> Array {
    let start = (seed as u64) << 40;
    let values = (0..shape.iter().product::<usize>() as u64).map(|at| {
        let mut bits = (start + at).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        ((bits >> 40) as f32 / (1 << 23) as f32) - 1.
    });
    Array { shape: shape.to_vec(), values: values.collect() }
}

fn unit_rows(seed: usize, n: usize, d: usize) -> Array {
    let mut array = uniform(seed, &[n, d]);
    for row in array.values.chunks_mut(d) {
        let length = row.iter().map(|v| v * v).sum::<f32>().sqrt();
        row.iter_mut().for_each(|v| *v /= length);
    }
    array
}
