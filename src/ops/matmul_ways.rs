//! The ways to compute a product on a GPU, and which of them suits a problem.
//!
//! All but [`VECTOR`] add the products of the inner axis one after the other, so that they give the same bits: which of these is
//! taken may follow the clock. Whether an inner axis is split, or is a vector's, follows from the problem alone.

use super::matmul_dispatch::INNER;
use super::matmul_kernels as kernels;
use crate::gpu::{Abilities, Kernel};
use crate::reference::MatmulShape;
use crate::shape::count;

/// One way to compute a product.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    pub name: &'static str,
    /// Rows and columns of the product for a workgroup; of [`SMALL`] the blocks of 64 invocations.
    pub tile: (usize, usize),
    /// What part of a device's rate it reaches on large products: of a GPU, and of a driver that runs on a CPU.
    pub efficiency: (f64, f64),
    /// Whether bias and activation are part of it; otherwise they come behind.
    pub epilogue: bool,
}

pub(crate) const PLAIN: Way = Way { name: "plain", tile: (32, 64), efficiency: (0.2, 0.15), epilogue: true };
pub(crate) const SMALL: Way = Way { name: "small", tile: (4, 4), efficiency: (0.15, 0.1), epilogue: true };
pub(crate) const VECTOR: Way = Way { name: "vector", tile: (1, 1), efficiency: (0.1, 0.1), epilogue: true };
pub(crate) const LANES: Way = Way { name: "lanes", tile: (32, 64), efficiency: (0.05, 1.), epilogue: false };
pub(crate) const TILED_64: Way =
    Way { name: "tiled 64", tile: (64, 64), efficiency: (0.65, 0.1), epilogue: true };
pub(crate) const TILED_128: Way =
    Way { name: "tiled 128", tile: (128, 128), efficiency: (1., 0.1), epilogue: true };

/// Every way, the plain one first.
pub(crate) const WAYS: &[Way] = &[PLAIN, SMALL, VECTOR, LANES, TILED_64, TILED_128];

/// Invocations that keep a GPU busy; a device's number differs, the choice hardly.
const BUSY: f64 = 65_536.;
/// Floating-point operations that are worth compiling the kernel of lanes for: a second.
const WORTH_LANES: f64 = 2e7;
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
    fn is(&self, other: &Way) -> bool {
        self.name == other.name
    }

    /// Whether a device has what it takes, and the problem is of its kind.
    pub(crate) fn serves(&self, device: &Abilities, shape: &MatmulShape) -> bool {
        match self.name {
            "vector" => shape.m == 1 || shape.n == 1,
            // Every subgroup is of eight: a workgroup of eight is one.
            "lanes" => device.subgroup_sizes == (8, 8),
            _ => device.invocations >= 256 && device.workgroup_memory >= 16 << 10,
        }
    }

    /// How much of the inner axis one dispatch sums.
    pub(super) fn inner(&self, shape: &MatmulShape) -> usize {
        // These make runs of it themselves.
        if self.name.starts_with("tiled") { shape.k.max(1) } else { INNER }
    }

    /// The kernel and its constants, but for the activation.
    pub(super) fn kernel(
        &self,
        device: &Abilities,
        layout: &Layout,
    ) -> (&'static Kernel, Vec<(&'static str, u32)>) {
        let along = |name, yes: bool| (name, u32::from(yes));
        let tiled = |side: u32| {
            let constants = vec![
                along(kernels::A_ALONG_INNER, layout.a_along_inner),
                along(kernels::B_ALONG_INNER, layout.b_along_inner),
                (kernels::TILE_ROWS, side),
                (kernels::TILE_COLS, side),
                // Without them the larger tiles are 16 KiB, all that some devices have.
                (kernels::PAD, u32::from(device.workgroup_memory > 16 << 10)),
            ];
            (if layout.wide { &kernels::TILED_WIDE } else { &kernels::TILED }, constants)
        };
        match self.name {
            "small" => (&kernels::SMALL, vec![]),
            "vector" => (&kernels::VECTOR, vec![along(kernels::A_ALONG_INNER, layout.a_along_inner)]),
            "lanes" => (&kernels::LANES, vec![]),
            "tiled 64" => tiled(64),
            "tiled 128" => tiled(128),
            _ => (&kernels::FORWARD, vec![]),
        }
    }

    /// Workgroups, and the floating-point operations of each at so much of the inner axis.
    pub(super) fn groups(&self, shape: &MatmulShape, layout: &Layout, inner: usize) -> (usize, f64) {
        let batches = count(&shape.batch);
        let tiles = batches * shape.m.div_ceil(self.tile.0) * shape.n.div_ceil(self.tile.1);
        let work = 2. * (self.tile.0 * self.tile.1 * inner.max(1)) as f64;
        match self.name {
            "small" => (tiles.div_ceil(64), 64. * work),
            "vector" => {
                let lines = if layout.a_along_inner { 4 } else { 64 };
                (batches * shape.m.max(shape.n).div_ceil(lines), lines as f64 * work)
            }
            _ => (tiles, work),
        }
    }

    /// How long it takes, in no unit: the operations it makes, those past the edges too, over the part of the device's rate
    /// that it reaches, over the part of the device that is busy.
    fn estimate(&self, device: &Abilities, shape: &MatmulShape, layout: &Layout) -> f64 {
        let (groups, work) = self.groups(shape, layout, shape.k);
        if device.software {
            return groups as f64 * work / self.efficiency.1;
        }
        let invocations = match self.name {
            "tiled 128" | "vector" => 256,
            _ => 64,
        };
        let busy = (groups.max(1) * invocations) as f64 / BUSY;
        groups as f64 * work / self.efficiency.0 / busy.min(1.)
    }
}

fn operations(shape: &MatmulShape) -> f64 {
    2. * (count(&shape.batch) * shape.m * shape.n * shape.k) as f64
}

/// The ways worth a try, the likely best first: no more than four times its estimate.
pub(crate) fn candidates(device: &Abilities, shape: &MatmulShape, layout: &Layout) -> Vec<Way> {
    let vector = shape.m == 1 || shape.n == 1;
    let worth = |way: &Way| !way.is(&LANES) || operations(shape) >= WORTH_LANES;
    let serving =
        WAYS.iter().filter(|way| way.serves(device, shape) && way.is(&VECTOR) == vector && worth(way));
    let mut all: Vec<_> = serving.map(|way| (way.estimate(device, shape, layout), *way)).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let Some(&(best, _)) = all.first() else { return vec![PLAIN] };
    all.into_iter().filter(|(estimate, _)| *estimate <= 4. * best || best == 0.).map(|(_, way)| way).collect()
}

/// In how many pieces the inner axis is summed at once: where the product is too small to keep a GPU busy and the inner axis is
/// long. Equal pieces, a multiple of four elements.
pub(crate) fn pieces(device: &Abilities, shape: &MatmulShape) -> usize {
    let tiles = count(&shape.batch) * shape.m.div_ceil(64) * shape.n.div_ceil(64);
    if device.software || shape.m == 1 || shape.n == 1 || tiles == 0 || shape.k == 0 {
        return 1;
    }
    let fits = |&pieces: &usize| {
        tiles * pieces <= 1024 && shape.k / pieces >= SHORTEST_PIECE && shape.k.is_multiple_of(4 * pieces)
    };
    [32, 16, 8, 4, 2].into_iter().find(fits).unwrap_or(1)
}
