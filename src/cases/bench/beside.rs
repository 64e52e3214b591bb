//! What a fused operation takes beside the plain ones that it is made of, timed in turn; what goes over rows beside the best copy, whose
//! rate was measured before.

use super::{Bench, Limits, is_software, measure};
use crate::cases::{attention, contrastive, products, rowwise};
use crate::device::Device;
use crate::error::Result;
use crate::ops::Precision;

/// An operation and what it cannot do without.
///
/// ```
/// let beside = crossmodal::cases::Beside { what: "softmax".into(), parts: "a copy".into(), seconds: 3., of_parts: 2. };
/// assert_eq!(beside.ratio(), 1.5);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Beside {
    /// The operation and its size.
    pub what: String,
    /// What it is compared with.
    pub parts: String,
    /// Seconds of the operation: the median over rounds of the fastest runs.
    pub seconds: f64,
    /// Seconds of its parts together.
    pub of_parts: f64,
}

impl Beside {
    /// How many times as long as its parts it takes. Example: [`Beside`].
    pub fn ratio(&self) -> f64 {
        self.seconds / self.of_parts
    }
}

/// Rounds in which both sides are timed in turn.
const ROUNDS: usize = 5;

/// [`info_nce`](crate::ops::info_nce()) forward and backward beside its four products, [`attention`](crate::ops::attention()) beside
/// its two and with its backward beside its seven, [`softmax`](crate::ops::softmax()) and
/// [`log_sum_exp`](crate::ops::log_sum_exp()) beside a copy of as many bytes, at sizes that suit the device.
///
/// Errors: the device's.
///
/// ```no_run
/// use crossmodal::{Device, cases::{Limits, beside}};
/// let device = Device::best()?;
/// for beside in beside(&device, &Limits::measure(&device)?)? {
///     println!("{}: {:.2} times {}", beside.what, beside.ratio(), beside.parts);
/// }
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[cfg(not(target_arch = "wasm32"))]
pub fn beside(device: &Device, limits: &Limits) -> Result<Vec<Beside>> {
    let software = is_software(device);
    let mut all = vec![];
    let pairs = if software { [(2048, 256), (1024, 128)] } else { [(16_384, 512), (8192, 256)] };
    for (n, d) in pairs {
        let own = contrastive::info_nce_of((n, d), 16 << 20, true, Precision::Strict);
        let product = |sizes, transposes| {
            products::product_bench(String::new(), sizes, transposes, false, Precision::Strict)
        };
        let parts = [
            (product((1, n, d, n), (false, true)), 2.),
            (product((1, n, n, d), (false, false)), 1.),
            (product((1, n, n, d), (true, false)), 1.),
        ];
        all.push(in_turn(device, ("info_nce", "its four products"), &own, &parts)?);
    }
    let lengths = if software { [(8, 512, 64), (4, 1024, 64)] } else { [(16, 4096, 64), (16, 4096, 128)] };
    for (heads, length, width) in lengths {
        let own = |both| attention::attention_of((1, heads), (length, length, width), false, both);
        let product = |k, n, transposes| {
            let sizes = (heads, length, k, n);
            products::product_bench(String::new(), sizes, transposes, false, Precision::Strict)
        };
        let of_rows = || product(width, length, (false, true));
        let of_pairs = |transposed| product(length, width, (transposed, false));
        let parts = [(of_rows(), 1.), (of_pairs(false), 1.)];
        all.push(in_turn(device, ("attention", "its two products"), &own(false), &parts)?);
        // Two forward, five backward: S twice and ∂P; the result and ∂Q; ∂K and ∂V.
        let parts = [(of_rows(), 3.), (of_pairs(false), 2.), (of_pairs(true), 2.)];
        all.push(in_turn(device, ("attention", "its seven products"), &own(true), &parts)?);
    }
    let rows = if software { [(1024, 1024), (4096, 256)] } else { [(8192, 4096), (262_144, 128)] };
    for (op, benches) in
        [("softmax", rowwise::softmax_of as fn(_) -> _), ("log_sum_exp", rowwise::log_sum_exp_of)]
    {
        for size in rows {
            let own: Bench = benches(size);
            let seconds =
                median((0..ROUNDS).map(|_| Ok(measure(device, &own)?.fastest)).collect::<Result<_>>()?);
            let what = format!("{op} {}", own.name);
            all.push(Beside {
                what,
                parts: "a copy of its bytes".into(),
                seconds,
                of_parts: own.bytes / limits.copy,
            });
        }
    }
    Ok(all)
}

fn in_turn(device: &Device, (op, parts): (&str, &str), own: &Bench, of: &[(Bench, f64)]) -> Result<Beside> {
    let (mut seconds, mut of_parts) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        seconds.push(measure(device, own)?.fastest);
        let each = of.iter().map(|(bench, times)| Ok(measure(device, bench)?.fastest * times));
        of_parts.push(each.sum::<Result<f64>>()?);
    }
    let what = format!("{op} {}", own.name);
    Ok(Beside { what, parts: parts.into(), seconds: median(seconds), of_parts: median(of_parts) })
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}
