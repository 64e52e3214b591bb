//! Kernels that are compiled without checks of their indices: every index is inside, on all of their cases.
#![cfg(feature = "verify")]

mod common;

use crossmodal::cases::{self, Verdict};
use crossmodal::gpu::{Gpu, Kernel};
use crossmodal::{DType, Device};
use std::sync::Arc;

/// What is put in front: an index that is outside is remembered, and then led inside.
const INSIDE: &str = "
var<private> strayed: bool = false;
fn inside(index: u32, size: u32) -> u32 {
    if index >= size { strayed = true; }
    return min(index, size - 1u);
}
";

/// The arrays that the kernel indexes, and how many elements each has; and what makes a result NaN.
fn arrays(kernel: &Kernel) -> (Vec<(&'static str, String)>, &'static str) {
    let (buffers, nan): (&[&str], _) = match kernel.entry {
        "tiled_wide" => (&["a", "b", "out", "bias"], "out[0] = vec4<elem_out>(elem_out(NAN))"),
        "tiled_sweep" => {
            (&["a", "b", "row_stats", "row_aims", "col_stats", "col_aims"], "row_stats[0] = vec2(NAN)")
        }
        "tiled_gradient" => (&["a", "b", "row_factors", "col_factors", "out"], "out[0] = vec4(NAN)"),
        entry => panic!("{entry}: a kernel without checks that this test does not know"),
    };
    let shared = [("rows_of_a", "DEPTH * A_STRIDE".into()), ("columns_of_b", "DEPTH * B_STRIDE".into())];
    let of_buffers = buffers.iter().map(|name| (*name, format!("arrayLength(&{name})")));
    (shared.into_iter().chain(of_buffers).collect(), nan)
}

/// The source with every index of the array led through `inside`, and how many there were.
fn watched(source: &str, array: &str, size: &str) -> (String, usize) {
    let opening = format!("{array}[");
    let (mut out, mut rest, mut count) = (String::new(), source, 0);
    while let Some(at) = rest.find(&opening) {
        let whole_word = !rest[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let begin = at + opening.len();
        out += &rest[..begin];
        rest = &rest[begin..];
        if !whole_word {
            continue;
        }
        let mut depth = 1;
        let end = rest.find(|c| {
            depth += i32::from(c == '[') - i32::from(c == ']');
            depth == 0
        });
        let end = end.expect("a bracket that closes");
        // Indices in the index are watched too.
        let (inner, more) = watched(&rest[..end], array, size);
        out += &format!("inside({inner}, {size})");
        rest = &rest[end..];
        count += 1 + more;
    }
    (out + rest, count)
}

/// The kernel as it is, but that an index outside makes its result NaN.
fn instrumented(kernel: &Kernel, code: &str) -> String {
    let mut code = code.to_string();
    let (arrays, nan) = arrays(kernel);
    for (array, size) in arrays {
        let (changed, count) = watched(&code, array, &size);
        assert!(count > 0, "{}: nothing reads or writes {array}", kernel.entry);
        code = changed;
    }
    // Where the entry point is done.
    let end = code.rfind('}').expect("a body");
    let types = code.rfind("alias elem_out").expect("the element types");
    let body = code[types..].find('\n').expect("a line") + types + 1;
    // No constant: compilers refuse a NaN.
    let nan = nan.replace("NAN", "bitcast<f32>(0x7fc00000u + params.pad0)");
    let stray = format!("if strayed {{ {nan}; }}\n");
    [&code[..body], INSIDE, &code[body..end], &stray, &code[end..]].concat()
}

/// Of the kernel's cases, each when it is asked for.
fn verdicts(device: &Device, kernel: &Kernel) -> impl Iterator<Item = Verdict> {
    let row = cases::TABLE.iter().find(|row| row.op == kernel.name).expect("a row");
    let own: Vec<_> = (row.cases)().into_iter().filter(|case| case.name.starts_with("tile")).collect();
    let types = [DType::F32, DType::F16];
    own.into_iter()
        .flat_map(move |case| types.map(|dtype| cases::verify_case(device, row.op, &case, dtype)))
        .flatten()
}

fn unchecked() -> impl Iterator<Item = &'static Kernel> {
    cases::TABLE.iter().flat_map(|row| row.kernels.iter().copied()).filter(|kernel| kernel.unchecked)
}

fn with_hook(gpu: &Gpu, hook: impl Fn(&Kernel, &str) -> String + Send + Sync + 'static) {
    gpu.set_source_hook(Some(Arc::new(
        move |kernel: &Kernel, code: &str| {
            if kernel.unchecked { hook(kernel, code) } else { code.to_string() }
        },
    )));
}

#[test]
fn kernels_without_checks_index_inside() {
    let device = common::gpu();
    let Device::Gpu(gpu) = &device else { panic!("{} is not a GPU", device.name()) };
    with_hook(gpu, instrumented);
    for kernel in unchecked() {
        let mut checks = 0;
        for verdict in verdicts(&device, kernel) {
            assert!(verdict.passed(), "{}: {}", verdict.case, verdict.detail);
            checks += 1;
        }
        assert!(checks >= 5, "{}: {checks} checks", kernel.entry);
    }
    gpu.set_source_hook(None);
}

#[test]
fn an_index_outside_would_be_seen() {
    let device = common::gpu();
    let Device::Gpu(gpu) = &device else { panic!("{} is not a GPU", device.name()) };
    // One vector short.
    let short = |kernel: &Kernel, code: &str| {
        instrumented(kernel, code).replace(", DEPTH * A_STRIDE)", ", DEPTH * FOURS_DOWN - 1u)")
    };
    with_hook(gpu, short);
    for kernel in unchecked() {
        assert!(verdicts(&device, kernel).any(|verdict| !verdict.passed()), "{}", kernel.entry);
    }
    gpu.set_source_hook(None);
}
