//! Products of matrices that no binding spans: cut along the batch, the rows, the columns or the inner axis.

use super::concat::{put, slice};
use super::matmul::{MatmulOptions, matmul};
use super::{add, cast, parts, unary};
use crate::dtype::DType;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::shape::count;
use crate::tensor::Tensor;

/// The arguments of [`matmul`], which has checked them, and the shape of its result.
#[derive(Clone, Copy)]
pub(super) struct Split<'a> {
    pub gpu: &'a Gpu,
    pub a: &'a Tensor,
    pub b: &'a Tensor,
    pub bias: Option<&'a Tensor>,
    pub options: &'a MatmulOptions,
    pub shape: &'a [usize],
}

impl Split<'_> {
    /// As [`matmul`]. Every cut calls it again on less.
    pub(super) fn product(self) -> Result<Tensor> {
        let Split { a, b, bias, options, shape, .. } = self;
        match shape {
            [_, _] => self.of_matrices(),
            // One matrix B for all: the batch is rows of one larger matrix A.
            _ if b.shape().len() == 2 && !options.transpose_a => {
                let cols = a.shape()[a.shape().len() - 1];
                matmul(&a.reshape(&[a.len() / cols.max(1), cols])?, b, bias, options)?.reshape(shape)
            }
            _ => self.of_batch(),
        }
    }

    fn of_batch(self) -> Result<Tensor> {
        let Split { gpu, bias, options, shape, .. } = self;
        let (a, b) = (parts::aligned(self.a, shape.len())?, parts::aligned(self.b, shape.len())?);
        if shape[0] == 1 {
            let (a, b) = (a.reshape(&a.shape()[1..])?, b.reshape(&b.shape()[1..])?);
            return matmul(&a, &b, bias, options)?.reshape(shape);
        }
        let widest =
            [a.shape(), b.shape(), shape].map(|shape| count(&shape[1..])).into_iter().max().unwrap_or(0);
        let [out] = parts::in_rows(gpu, shape[0], widest * a.dtype().size(), |range| {
            let (a, b) = (parts::broadcast_rows(&a, range)?, parts::broadcast_rows(&b, range)?);
            Ok([matmul(&a, &b, bias, options)?])
        })?;
        Ok(out)
    }

    fn of_matrices(self) -> Result<Tensor> {
        let Split { gpu, a, b, bias, options, shape } = self;
        let ((m, n), size) = ((shape[0], shape[1]), a.dtype().size());
        let MatmulOptions { transpose_a, transpose_b, .. } = *options;
        let k = a.shape()[if transpose_a { 0 } else { 1 }];
        let large = parts::needed(gpu, &[], shape, a.dtype());
        // A vector is a row or a column as suits.
        if a.is_split() && (if transpose_a { k } else { m }) == 1 {
            let a = a.reshape(&[a.shape()[1], 1])?;
            return matmul(&a, b, bias, &MatmulOptions { transpose_a: !transpose_a, ..*options });
        }
        if b.is_split() && !transpose_b && k == 1 {
            let b = b.reshape(&[n, 1])?;
            return matmul(a, &b, bias, &MatmulOptions { transpose_b: true, ..*options });
        }
        let by_rows =
            if transpose_a { large && !a.is_split() && !b.is_split() } else { large || a.is_split() };
        if by_rows && m > 1 {
            let [out] = parts::in_rows(gpu, m, k.max(n) * size, |range| {
                Ok([matmul(&slice(a, usize::from(transpose_a), range)?, b, bias, options)?])
            })?;
            return Ok(out);
        }
        if b.is_split() && transpose_b && n > 1 {
            let mut out = Tensor::uninit("matmul", a.device(), shape, a.dtype())?;
            for range in parts::ranges(gpu, n, k.max(m) * size) {
                let bias = bias.map(|bias| slice(bias, 0, &range)).transpose()?;
                put(&matmul(a, &slice(b, 0, &range)?, bias.as_ref(), options)?, &mut out, 1, range.start)?;
            }
            return Ok(out);
        }
        self.over_inner(k)
    }

    /// The sum of the products of blocks of the inner axis, in f32, then what follows a product.
    fn over_inner(self, k: usize) -> Result<Tensor> {
        let Split { gpu, a, b, bias, options, shape } = self;
        let product = MatmulOptions { activation: None, ..*options };
        let mut sum: Option<Tensor> = None;
        for range in parts::ranges(gpu, k, shape[0].max(shape[1]) * DType::F32.size()) {
            let a = cast(&slice(a, usize::from(!options.transpose_a), &range)?, DType::F32)?;
            let b = cast(&slice(b, usize::from(options.transpose_b), &range)?, DType::F32)?;
            let block = matmul(&a, &b, None, &product)?;
            sum = Some(sum.map_or(Ok(block.clone()), |sum| add(&sum, &block))?);
        }
        let mut out = sum.expect("a split matrix has an inner axis");
        if let Some(bias) = bias {
            out = add(&out, &cast(bias, DType::F32)?)?;
        }
        if let Some(kind) = options.activation {
            out = unary(kind, &out)?;
        }
        cast(&out, a.dtype())
    }
}
