// Reductions over a workgroup of WIDTH invocations. Every invocation gets the result. The tree is fixed: same bits every time.
const WIDTH: u32 = 64u;
// The lowest finite f32: a maximum's start. WGSL has no infinity.
const LOWEST: f32 = -3.4028234e38;

var<workgroup> scratch: array<f32, WIDTH>;

fn workgroup_sum(value: f32, lane: u32) -> f32 {
    scratch[lane] = value;
    workgroupBarrier();
    for (var step = WIDTH / 2u; step > 0u; step = step / 2u) {
        if lane < step {
            scratch[lane] = scratch[lane] + scratch[lane + step];
        }
        workgroupBarrier();
    }
    let total = scratch[0];
    workgroupBarrier();
    return total;
}

fn workgroup_max(value: f32, lane: u32) -> f32 {
    scratch[lane] = value;
    workgroupBarrier();
    for (var step = WIDTH / 2u; step > 0u; step = step / 2u) {
        if lane < step {
            scratch[lane] = max(scratch[lane], scratch[lane + step]);
        }
        workgroupBarrier();
    }
    let largest = scratch[0];
    workgroupBarrier();
    return largest;
}

