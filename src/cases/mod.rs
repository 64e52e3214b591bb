//! The one table of cases, read by the tests, by `crossmodal verify` and by the benches.
//!
//! A case is inputs and one function. It runs twice: on the device under test in its own type, and on the CPU in f64, where
//! operations are their plain definitions; the results must agree within the case's [`Tolerance`]. A row of [`TABLE`] is one
//! operation: a test fails if a shader, or an operation's module, has no row.
//!
//! ```
//! use crossmodal::{Device, cases};
//! let row = cases::TABLE.iter().find(|row| row.op == "softmax").unwrap();
//! let verdicts = cases::verify_row(&Device::Cpu, row, &mut |_| ());
//! assert!(verdicts.iter().all(|verdict| verdict.passed()));
//! ```

mod attention;
mod attention_options;
mod bench;
mod combinations;
mod contrastive;
mod elementwise;
mod input;
mod layout;
mod norms;
mod optimiser;
mod products;
mod retrieval;
mod rowwise;
mod tolerance;
mod verify;

pub use bench::{
    Bench, Beside, Growth, Limits, Line, Measurement, Outcome, Table, bench, benches, exponent, measure,
    patience, table_head,
};
#[cfg(not(target_arch = "wasm32"))]
pub use bench::{beside, growth};
pub use input::{Input, Run};
pub use tolerance::Tolerance;
pub use verify::{Verdict, verify_case, verify_row};

use crate::error::Result;
use crate::gpu::Kernel;
use crate::ops;
use crate::ops::{Rule, Saved};
use crate::tensor::Tensor;
use std::sync::Mutex;

/// One operation.
///
/// ```
/// use crossmodal::cases::TABLE;
/// let row = TABLE.iter().find(|row| row.op == "matmul").unwrap();
/// assert!(row.kernels.iter().all(|kernel| kernel.name == "matmul"));
/// assert!((row.cases)().iter().any(|case| case.f16));
/// ```
pub struct Row {
    /// Its name, in `ops`, `reference` and `shaders` alike.
    pub op: &'static str,
    /// Its kernels.
    pub kernels: &'static [&'static Kernel],
    /// What verification runs.
    pub cases: fn() -> Vec<Case>,
    /// What benches run.
    pub bench: fn() -> Vec<Bench>,
}

/// Every operation.
///
/// ```
/// assert!(crossmodal::cases::TABLE.is_sorted_by_key(|row| row.op));
/// ```
pub const TABLE: &[Row] = &[
    Row { op: "adamw", kernels: ops::adamw::KERNELS, cases: optimiser::adamw, bench: optimiser::adamw_bench },
    Row {
        op: "attention",
        kernels: ops::attention::KERNELS,
        cases: attention::attention,
        bench: attention::attention_bench,
    },
    Row {
        op: "binary",
        kernels: ops::binary::KERNELS,
        cases: elementwise::binary,
        bench: elementwise::binary_bench,
    },
    Row { op: "cast", kernels: ops::cast::KERNELS, cases: elementwise::cast, bench: elementwise::cast_bench },
    Row {
        op: "clip_global_norm",
        kernels: ops::clip_global_norm::KERNELS,
        cases: optimiser::clip_global_norm,
        bench: optimiser::clip_global_norm_bench,
    },
    Row { op: "concat", kernels: ops::concat::KERNELS, cases: layout::concat, bench: layout::concat_bench },
    Row { op: "copy", kernels: ops::copy::KERNELS, cases: layout::copy, bench: layout::copy_bench },
    Row {
        op: "cosine_similarity",
        kernels: ops::cosine_similarity::KERNELS,
        cases: products::cosine_similarity,
        bench: products::cosine_similarity_bench,
    },
    Row {
        op: "dropout",
        kernels: ops::dropout::KERNELS,
        cases: elementwise::dropout,
        bench: elementwise::dropout_bench,
    },
    Row { op: "gather", kernels: ops::gather::KERNELS, cases: layout::gather, bench: layout::gather_bench },
    Row {
        op: "info_nce",
        kernels: ops::info_nce::KERNELS,
        cases: contrastive::info_nce,
        bench: contrastive::info_nce_bench,
    },
    Row {
        op: "keep_rows",
        kernels: ops::keep_rows::KERNELS,
        cases: layout::keep_rows,
        bench: layout::keep_rows_bench,
    },
    Row {
        op: "l2_normalize",
        kernels: ops::l2_normalize::KERNELS,
        cases: rowwise::l2_normalize,
        bench: rowwise::l2_normalize_bench,
    },
    Row {
        op: "layer_norm",
        kernels: ops::layer_norm::KERNELS,
        cases: norms::layer_norm,
        bench: norms::layer_norm_bench,
    },
    Row {
        op: "log_softmax",
        kernels: ops::log_softmax::KERNELS,
        cases: rowwise::log_softmax,
        bench: rowwise::log_softmax_bench,
    },
    Row {
        op: "log_sum_exp",
        kernels: ops::log_sum_exp::KERNELS,
        cases: rowwise::log_sum_exp,
        bench: rowwise::log_sum_exp_bench,
    },
    Row {
        op: "matmul",
        kernels: ops::matmul::KERNELS,
        cases: products::matmul,
        bench: products::matmul_bench,
    },
    Row { op: "reduce", kernels: ops::reduce::KERNELS, cases: rowwise::reduce, bench: rowwise::reduce_bench },
    Row {
        op: "siglip",
        kernels: ops::siglip::KERNELS,
        cases: contrastive::siglip,
        bench: contrastive::siglip_bench,
    },
    Row {
        op: "softmax",
        kernels: ops::softmax::KERNELS,
        cases: rowwise::softmax,
        bench: rowwise::softmax_bench,
    },
    Row { op: "top_k", kernels: ops::top_k::KERNELS, cases: retrieval::top_k, bench: retrieval::top_k_bench },
    Row {
        op: "transpose",
        kernels: ops::transpose::KERNELS,
        cases: layout::transpose,
        bench: layout::transpose_bench,
    },
    Row {
        op: "unary",
        kernels: ops::unary::KERNELS,
        cases: elementwise::unary,
        bench: elementwise::unary_bench,
    },
];

/// Results by name: `out`, `out 1`, … and the gradients `d0`, `d1`, … of the inputs.
///
/// ```
/// use crossmodal::{DType, Device, Result, Tensor, cases::{Run, TABLE}};
/// let case = &(TABLE.iter().find(|row| row.op == "unary").unwrap().cases)()[0];
/// let run = Run::under_test(&Device::Cpu, DType::F32);
/// let inputs = case.inputs.iter().map(|input| run.tensor(input)).collect::<Result<Vec<Tensor>>>()?;
/// let outputs = (case.run)(&run, &inputs)?;
/// assert_eq!((outputs[0].0.as_str(), outputs[1].0.as_str()), ("out", "d0"));
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub type Outputs = Vec<(String, Tensor)>;

type RunFn = Box<dyn Fn(&Run, &[Tensor]) -> Result<Outputs> + Send + Sync>;

/// One thing that an operation must get right.
///
/// ```
/// use crossmodal::{DType, Device, ops::exp};
/// use crossmodal::cases::{Case, Input, Run, Tolerance, verify_case};
/// let case = Case {
///     name: "small arguments".into(),
///     inputs: vec![Input::uniform("x", &[100], 1.)],
///     run: Box::new(|_: &Run, inputs| Ok(vec![("out".into(), exp(&inputs[0])?)])),
///     forward: Tolerance::exponential(1.),
///     backward: Tolerance::exact(),
///     last: None,
///     f16: true,
/// };
/// assert!(verify_case(&Device::Cpu, "exp", &case, DType::F16).unwrap().passed());
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub struct Case {
    /// What it is about, unique in its row.
    pub name: String,
    /// The inputs.
    pub inputs: Vec<Input>,
    /// The forward and, where there is one, the backward.
    pub run: RunFn,
    /// For outputs.
    pub forward: Tolerance,
    /// For gradients.
    pub backward: Tolerance,
    /// For the last gradient, where it is of another size than the others.
    pub last: Option<Tolerance>,
    /// Whether it also runs in f16.
    pub f16: bool,
}

/// The gradient of output `i` from which a case's backward starts; whole numbers where the case is exact.
///
/// ```
/// use crossmodal::cases::{Input, upstream};
/// assert_eq!(upstream(0, &[3], true).values, Input::integers("upstream 0", &[3]).values);
/// ```
pub fn upstream(i: usize, shape: &[usize], whole: bool) -> Input {
    let seed = format!("upstream {i}");
    if whole { Input::integers(&seed, shape) } else { Input::uniform(&seed, shape, 1.) }
}

/// A case of an operation with a [`Rule`]: forward, then backward with random upstream gradients (whole numbers where the
/// case is exact).
fn of_rule<O: Clone + Send + Sync + 'static>(
    name: impl Into<String>,
    rule: &'static Rule<O>,
    options: O,
    inputs: Vec<Input>,
    (forward, backward): (Tolerance, Tolerance),
) -> Case {
    of_rule_with(name, rule, move |_| Ok(options.clone()), inputs, (forward, backward))
}

/// What a case made on a device and needs again when it runs there again: a bench times the operation, not the host's random
/// numbers and their upload.
struct Prepared<O> {
    run: Run,
    options: O,
    upstreams: Vec<Option<Tensor>>,
}

/// As [`of_rule`] where the options depend on the device.
fn of_rule_with<O: Send + Sync + 'static>(
    name: impl Into<String>,
    rule: &'static Rule<O>,
    options: impl Fn(&Run) -> Result<O> + Send + Sync + 'static,
    inputs: Vec<Input>,
    (forward, backward): (Tolerance, Tolerance),
) -> Case {
    let whole = backward == Tolerance::exact();
    let prepared: Mutex<Option<Prepared<O>>> = Mutex::new(None);
    let run = move |run: &Run, inputs: &[Tensor]| {
        let mut prepared = prepared.lock().expect("prepared lock");
        if prepared.as_ref().is_none_or(|own| own.run != *run) {
            *prepared = Some(Prepared { run: run.clone(), options: options(run)?, upstreams: vec![] });
        }
        let Prepared { options, upstreams, .. } = prepared.as_mut().expect("it was just made");
        let made = (rule.forward)(options, &inputs.iter().collect::<Vec<_>>())?;
        let upstream = |(i, out): (usize, &Tensor)| {
            input::apart(|| run.tensor_as(&upstream(i, out.shape(), whole), out.dtype())).map(Some)
        };
        if upstreams.is_empty() {
            *upstreams = made.outputs.iter().enumerate().map(upstream).collect::<Result<Vec<_>>>()?;
        }
        let needs = vec![true; inputs.len()];
        let saved =
            Saved { inputs, outputs: &made.outputs, kept: &made.kept, grads: upstreams, needs: &needs };
        let gradients = (rule.backward)(options, &saved)?;
        let name = |i: usize| if i == 0 { "out".to_string() } else { format!("out {i}") };
        let outputs = made.outputs.into_iter().enumerate().map(|(i, out)| (name(i), out));
        let gradients = gradients.into_iter().enumerate().filter_map(|(i, d)| Some((format!("d{i}"), d?)));
        Ok(outputs.chain(gradients).collect())
    };
    Case { name: name.into(), inputs, run: Box::new(run), forward, backward, last: None, f16: true }
}

/// The forward alone of an operation with a [`Rule`], to be timed.
fn of_forward<O: Send + Sync + 'static>(rule: &'static Rule<O>, options: O, inputs: Vec<Input>) -> Case {
    let run = move |_: &Run, inputs: &[Tensor]| {
        let made = (rule.forward)(&options, &inputs.iter().collect::<Vec<_>>())?;
        Ok(made.outputs.into_iter().map(|out| ("out".to_string(), out)).collect())
    };
    Case::of("forward", inputs, run, Tolerance::exact())
}

impl Case {
    /// A case without a backward.
    fn of(
        name: impl Into<String>,
        inputs: Vec<Input>,
        run: impl Fn(&Run, &[Tensor]) -> Result<Outputs> + Send + Sync + 'static,
        tolerance: Tolerance,
    ) -> Case {
        let (forward, backward) = (tolerance, tolerance);
        Case { name: name.into(), inputs, run: Box::new(run), forward, backward, last: None, f16: true }
    }

    fn f32_only(self) -> Case {
        Case { f16: false, ..self }
    }
}
