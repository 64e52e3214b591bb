//! The ways to compute a product on a GPU, and which of them suits a problem.
//!
//! All but [`Way::Vector`] and those of matrix units add the products of the inner axis one after the other, so that they give the same
//! bits: which of these is taken may follow the clock. Whether an inner axis is split, is a vector's, or is summed by matrix units,
//! follows from the problem and the device alone.

use super::matmul_cooperative as cooperative;
use super::matmul_dispatch::INNER;
use super::matmul_kernels as kernels;
use crate::dtype::DType;
use crate::gpu::{Abilities, Kernel};
use crate::reference::MatmulShape;
use crate::shape::count;

/// One way to compute a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Any strides, straight from global memory: what the others are checked against.
    Plain,
    /// A few elements to an invocation, whatever matrix they are of.
    Small,
    /// A matrix by a vector.
    Vector,
    /// The registers of a subgroup of eight.
    Lanes,
    /// A square tile of this side in workgroup memory.
    Tiled(usize),
    /// The device's matrix units, by so many subgroups that share what they load.
    Cooperative(usize),
    /// The same, where each subgroup loads for itself.
    Direct(usize),
}

/// Every way, the plain one first.
pub(crate) const WAYS: &[Way] = &[
    Way::Plain,
    Way::Small,
    Way::Vector,
    Way::Lanes,
    Way::Tiled(64),
    Way::Tiled(128),
    Way::Cooperative(4),
    Way::Cooperative(8),
    Way::Direct(4),
    Way::Direct(8),
];

/// How exact a product has to be.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{MatmulOptions, Precision, matmul}};
/// let x = Tensor::from_slice(&Device::Cpu, &[1, 1], &[3f32])?;
/// let options = MatmulOptions { precision: Precision::Fast, ..Default::default() };
/// assert_eq!(matmul(&x, &x, None, &options)?.item()?, 9.);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// f32 times f32 is f32. Products of f16 are exact in f32 and summed there, by matrix units too.
    #[default]
    Strict,
    /// Where a GPU has matrix units, a large product of f32 is made of three of f16: every number is the sum of two f16, after its row
    /// (its column in B) was multiplied by a power of two, and the product of the two small parts is left out. An element may be off by
    /// `2^-19 Σ |a| |b|` beside the rounding of the sums, where |a| counts as no less than `2^-20` of the largest of its row and |b| of
    /// its column (`2^-9` on a device that flushes subnormal f16 to zero). Where a row holds an infinity its results are not finite, but
    /// may be NaN. Both operands are copied, each into as many bytes as it has.
    Fast,
}

/// Invocations that keep a GPU busy; a device's number differs, the choice hardly.
const BUSY: f64 = 65_536.;
/// Floating-point operations that are worth compiling the kernel of lanes for: half a second, as long as hundreds of such products
/// take without it.
const WORTH_LANES: f64 = 2e6;
/// Floating-point operations that are worth bringing operands into the form that matrix units take: no fewer than are worth timing,
/// and with it checking.
const WORTH_UNITS: f64 = super::matmul_tune::WORTH_TIMING;
/// Workgroups of 64 by 64 that need no more beside them: on the GPU measured, 256 of them in one go were faster than in pieces.
const ENOUGH_TILES: usize = 256;
/// The shortest piece of an inner axis that is worth a pass of its own.
const SHORTEST_PIECE: usize = 256;

/// Which axis is contiguous, and whether four elements can be read at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub a_along_inner: bool,
    pub b_along_inner: bool,
    pub wide: bool,
}

impl Layout {
    /// Of a problem whose tensors begin at these elements.
    pub(super) fn of(shape: &MatmulShape, [a_offset, b_offset, out_offset]: [usize; 3]) -> Layout {
        let MatmulShape { m, n, k, a_strides, b_strides, .. } = shape;
        let (a_along_inner, b_along_inner) = (a_strides.1 == 1, b_strides.0 == 1 && b_strides.1 != 1);
        let contiguous =
            |along_inner: bool, inner: usize, outer: usize| if along_inner { inner } else { outer };
        let numbers = [
            contiguous(a_along_inner, *k, *m),
            contiguous(b_along_inner, *k, *n),
            contiguous(a_along_inner, a_strides.0, a_strides.1),
            contiguous(b_along_inner, b_strides.1, b_strides.0),
            *n,
            a_offset,
            b_offset,
            out_offset,
        ];
        let mut all = numbers.iter().chain(&shape.a_batch).chain(&shape.b_batch);
        Layout { a_along_inner, b_along_inner, wide: all.all(|number| number.is_multiple_of(4)) }
    }
}

impl Way {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Way::Plain => "plain",
            Way::Small => "small",
            Way::Vector => "vector",
            Way::Lanes => "lanes",
            Way::Tiled(64) => "tiled 64",
            Way::Tiled(_) => "tiled 128",
            Way::Cooperative(4) => "cooperative 4",
            Way::Cooperative(_) => "cooperative 8",
            Way::Direct(4) => "direct 4",
            Way::Direct(_) => "direct 8",
        }
    }

    /// Rows and columns of the product for a workgroup; of [`Way::Small`] for an invocation.
    pub(super) fn tile(self, device: &Abilities) -> (usize, usize) {
        match self {
            Way::Plain | Way::Lanes => (32, 64),
            Way::Small => (4, 4),
            Way::Vector => (1, 1),
            Way::Tiled(side) => (side, side),
            Way::Cooperative(subgroups) | Way::Direct(subgroups) => {
                let (down, across) = cooperative::arrangement(subgroups);
                let side = 4 * device.cooperative as usize;
                (down * side, across * side)
            }
        }
    }

    /// What part of a device's rate it reaches on large products: of a driver that runs on a CPU, or of a GPU.
    fn efficiency(self, software: bool) -> f64 {
        let (of_gpu, of_cpu) = match self {
            Way::Plain => (0.2, 0.15),
            Way::Small => (0.15, 0.1),
            Way::Vector => (0.1, 0.1),
            Way::Lanes => (0.05, 1.),
            Way::Tiled(64) => (0.65, 0.1),
            Way::Tiled(_) => (1., 0.1),
            Way::Cooperative(4) | Way::Direct(4) => (3., 0.1),
            Way::Cooperative(_) | Way::Direct(_) => (4., 0.1),
        };
        if software { of_cpu } else { of_gpu }
    }

    /// Whether it is by matrix units.
    pub(crate) fn has_units(self) -> bool {
        matches!(self, Way::Cooperative(_) | Way::Direct(_))
    }

    /// Whether bias and activation are part of it; otherwise they come behind.
    pub(super) fn has_epilogue(self) -> bool {
        self != Way::Lanes
    }

    /// Whether a device has what it takes, and the problem is of its kind.
    pub(crate) fn serves(self, device: &Abilities, shape: &MatmulShape) -> bool {
        match self {
            Way::Vector => shape.m == 1 || shape.n == 1,
            // Every subgroup is of eight: a workgroup of eight is one.
            Way::Lanes => device.subgroup_sizes == (8, 8),
            Way::Cooperative(subgroups) => cooperative::serves(subgroups, true, device, shape),
            Way::Direct(subgroups) => cooperative::serves(subgroups, false, device, shape),
            _ => device.invocations >= 256 && device.workgroup_memory >= 16 << 10,
        }
    }

    /// How much of the inner axis one dispatch sums.
    pub(super) fn inner(self, shape: &MatmulShape, dtype: DType) -> usize {
        match self {
            // These make runs of it themselves.
            Way::Tiled(_) => shape.k.max(1),
            // Of f16 the rounding of one long sum is small beside that of its result.
            Way::Cooperative(_) | Way::Direct(_) if dtype == DType::F16 => shape.k.max(1),
            _ => INNER,
        }
    }

    /// The kernel and its constants, but for the activation.
    pub(super) fn kernel(
        self,
        device: &Abilities,
        layout: &Layout,
    ) -> (&'static Kernel, Vec<(&'static str, u32)>) {
        let along = |name, yes: bool| (name, u32::from(yes));
        match self {
            Way::Plain => (&kernels::FORWARD, vec![]),
            Way::Small => (&kernels::SMALL, vec![]),
            Way::Vector => (&kernels::VECTOR, vec![along(kernels::A_ALONG_INNER, layout.a_along_inner)]),
            Way::Lanes => (&kernels::LANES, vec![]),
            Way::Tiled(side) => {
                let constants = vec![
                    along(kernels::A_ALONG_INNER, layout.a_along_inner),
                    along(kernels::B_ALONG_INNER, layout.b_along_inner),
                    (kernels::TILE_ROWS, side as u32),
                    (kernels::TILE_COLS, side as u32),
                    // Without them the larger tiles are 16 KiB, all that some devices have.
                    (kernels::PAD, u32::from(device.workgroup_memory > 16 << 10)),
                ];
                (if layout.wide { &kernels::TILED_WIDE } else { &kernels::TILED }, constants)
            }
            Way::Cooperative(subgroups) => cooperative::kernel(subgroups, true, device),
            Way::Direct(subgroups) => cooperative::kernel(subgroups, false, device),
        }
    }

    /// Workgroups, and the floating-point operations of each at so much of the inner axis.
    pub(super) fn groups(
        self,
        device: &Abilities,
        shape: &MatmulShape,
        layout: &Layout,
        inner: usize,
    ) -> (usize, f64) {
        let batches = count(&shape.batch);
        let (rows, cols) = self.tile(device);
        let tiles = batches * shape.m.div_ceil(rows) * shape.n.div_ceil(cols);
        let work = 2. * (rows * cols * inner.max(1)) as f64;
        match self {
            Way::Small => (tiles.div_ceil(64), 64. * work),
            Way::Vector => {
                let lines = if layout.a_along_inner { 4 } else { 64 };
                (batches * shape.m.max(shape.n).div_ceil(lines), lines as f64 * work)
            }
            _ => (tiles, work),
        }
    }

    /// How long it takes, in no unit: the operations it makes, those past the edges too, over the part of the device's rate
    /// that it reaches, over the part of the device that is busy.
    fn estimate(self, device: &Abilities, shape: &MatmulShape, layout: &Layout) -> f64 {
        let (groups, work) = self.groups(device, shape, layout, shape.k);
        if device.software {
            return groups as f64 * work / self.efficiency(true);
        }
        let invocations = match self {
            Way::Tiled(128) | Way::Vector | Way::Cooperative(8) | Way::Direct(8) => 256,
            Way::Cooperative(_) | Way::Direct(_) => 128,
            _ => 64,
        };
        let busy = (groups.max(1) * invocations) as f64 / BUSY;
        groups as f64 * work / self.efficiency(false) / busy.min(1.)
    }
}

fn operations(shape: &MatmulShape) -> f64 {
    2. * (count(&shape.batch) * shape.m * shape.n * shape.k) as f64
}

/// The ways worth a try, the likely best first: no more than four times its estimate. Where matrix units are allowed and serve,
/// nothing else does, since its bits differ.
pub(crate) fn candidates(
    device: &Abilities,
    shape: &MatmulShape,
    layout: &Layout,
    allow_units: bool,
) -> Vec<Way> {
    let vector = shape.m == 1 || shape.n == 1;
    let units = allow_units
        && !device.software
        && !vector
        && operations(shape) >= WORTH_UNITS
        && Way::Cooperative(4).serves(device, shape);
    let suits = |way: &Way| {
        let worth = *way != Way::Lanes || operations(shape) >= WORTH_LANES;
        let of_units = way.has_units();
        way.serves(device, shape) && (*way == Way::Vector) == vector && of_units == units && worth
    };
    let serving = WAYS.iter().copied().filter(suits);
    let mut all: Vec<_> = serving.map(|way| (way.estimate(device, shape, layout), way)).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let Some(&(best, _)) = all.first() else { return vec![Way::Plain] };
    all.into_iter().filter(|(estimate, _)| *estimate <= 4. * best || best == 0.).map(|(_, way)| way).collect()
}

/// The way of a product that is one of many, where it follows from the floating-point operations that all of them make together; none
/// where the rule of thumb decides by the one.
pub(super) fn of_many(device: &Abilities, shape: &MatmulShape, all: f64) -> Option<Way> {
    let worth = device.software && all >= WORTH_LANES && shape.m > 1 && shape.n > 1;
    Some(Way::Lanes).filter(|way| worth && way.serves(device, shape))
}

/// In how many pieces the inner axis is summed at once: where the product is too small to keep a GPU busy and the inner axis is
/// long. Equal pieces, a multiple of four elements.
pub(crate) fn pieces(device: &Abilities, shape: &MatmulShape) -> usize {
    let tiles = count(&shape.batch) * shape.m.div_ceil(64) * shape.n.div_ceil(64);
    // A piece is one more batch axis, and kernels have eight.
    let has_room = shape.batch.len() < 8;
    if device.software || shape.m == 1 || shape.n == 1 || tiles == 0 || shape.k == 0 || !has_room {
        return 1;
    }
    let fits = |&pieces: &usize| {
        tiles * pieces <= ENOUGH_TILES
            && shape.k / pieces >= SHORTEST_PIECE
            && shape.k.is_multiple_of(4 * pieces)
    };
    [32, 16, 8, 4, 2].into_iter().find(fits).unwrap_or(1)
}
