// For each line of an operand the power of two that brings its largest finite number to between 2^14 and 2^15.
@group(0) @binding(1) var<storage, read> x: array<elem>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

// Invocations to a line: neighbours in memory are read by neighbours.
const WIDTH: u32 = select(4u, 32u, ALONG_INNER == 1u);
const LINES: u32 = 256u / WIDTH;
var<workgroup> largest: array<u32, 256>;

// The bits of the size of a finite number, as whole numbers in the same order; 0 for others.
fn finite_bits(value: f32) -> u32 {
    let bits = bitcast<u32>(value) & 0x7fffffffu;
    return select(bits, 0u, bits >= 0x7f800000u);
}

@compute @workgroup_size(256)
fn line_scales(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let lines = operand_lines();
    let all = params.batches * lines;
    let own = select(thread % LINES, thread / WIDTH, ALONG_INNER == 1u);
    let lane = select(thread / LINES, thread % WIDTH, ALONG_INNER == 1u);
    let number = (params.first_group + group_index(group, groups)) * LINES + own;
    var most = 0u;
    if number < all {
        let start = operand_origin(number / lines) + number % lines * line_stride();
        for (var p = lane; p < params.inner; p += WIDTH) {
            most = max(most, finite_bits(f32(x[start + p * inner_stride()])));
        }
    }
    largest[own * WIDTH + lane] = most;
    workgroupBarrier();
    if lane > 0u || number >= all { return; }
    for (var i = 1u; i < WIDTH; i++) {
        most = max(most, largest[own * WIDTH + i]);
    }
    // 2^14 over the power of two below it, as far as f32 reaches with its inverse.
    out[number] = bitcast<f32>(clamp(268u - (most >> 23u), 1u, 253u) << 23u);
}
