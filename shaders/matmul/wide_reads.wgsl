// A and B four neighbouring elements at a time: everything that is contiguous begins at a multiple of four and has a multiple
// of four elements.
@group(0) @binding(1) var<storage, read> a: array<vec4<elem>>;
@group(0) @binding(2) var<storage, read> b: array<vec4<elem>>;
const WHOLE: bool = true;

fn a_whole(at: u32) -> vec4<f32> {
    return vec4<f32>(a[at / 4u]);
}

fn b_whole(at: u32) -> vec4<f32> {
    return vec4<f32>(b[at / 4u]);
}

// Four neighbouring elements at `at`, zeros if none are left.
fn a_four(at: u32, left: u32) -> vec4<f32> {
    if left == 0u { return vec4(0.0); }
    return vec4<f32>(a[at / 4u]);
}

fn b_four(at: u32, left: u32) -> vec4<f32> {
    if left == 0u { return vec4(0.0); }
    return vec4<f32>(b[at / 4u]);
}
