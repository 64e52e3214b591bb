// The lines of an operand (rows of A, columns of B) as f16 along the inner axis, filled up with zeros to a multiple of what
// the kernel of cooperative matrices reads at a time. f32 becomes the sum of two f16: the line times a power of two, rounded,
// and what the rounding left. That power brings the line's largest number to between 2^14 and 2^15, so that the second part
// has all its bits but for numbers below 2^-17 of the largest, which lose those under 2^-39 of it.
@group(0) @binding(1) var<storage, read> x: array<elem>;
@group(0) @binding(2) var<storage, read> scales: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<elem_out>>;

const SIDE_OF_TILE: u32 = 32u;
// One more than a side: neighbours along either axis lie in different banks.
var<workgroup> tile: array<f32, SIDE_OF_TILE * (SIDE_OF_TILE + 1u)>;

fn part_of(value: f32, part: u32) -> elem_out {
    if PARTS == 1u { return elem_out(value); }
    let bits = bitcast<u32>(value);
    // What is not finite is in the first part.
    if (bits & 0x7f800000u) == 0x7f800000u { return elem_out(select(0.0, value, part == 0u)); }
    // Rounded to the eleven bits of f16 by its bits: drivers take what goes to f16 and back for what it was. What f16 has fewer
    // bits for is in the second part alone.
    let rounded = select(bitcast<f32>((bits + 0x1000u) & 0xffffe000u), 0.0, abs(value) < 0x1p-14f);
    return elem_out(select(value - rounded, rounded, part == 0u));
}

@compute @workgroup_size(256)
fn pack(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let lines = operand_lines();
    let tiles_across = params.padded / SIDE_OF_TILE;
    let tiles_down = (lines + SIDE_OF_TILE - 1u) / SIDE_OF_TILE;
    let number = params.first_group + group_index(group, groups);
    let batch = number / (tiles_across * tiles_down);
    if batch >= params.batches { return; }
    let first_line = number % (tiles_across * tiles_down) / tiles_across * SIDE_OF_TILE;
    let first_inner = number % tiles_across * SIDE_OF_TILE;
    let origin = operand_origin(batch);
    for (var i = thread; i < SIDE_OF_TILE * SIDE_OF_TILE; i += 256u) {
        // Neighbours in memory are neighbours here.
        let line = select(i % SIDE_OF_TILE, i / SIDE_OF_TILE, ALONG_INNER == 1u);
        let inner = select(i / SIDE_OF_TILE, i % SIDE_OF_TILE, ALONG_INNER == 1u);
        var value = 0.0;
        if first_line + line < lines && first_inner + inner < params.inner {
            let scale = scale_of(batch * lines + first_line + line);
            value = f32(x[origin + (first_line + line) * line_stride() + (first_inner + inner) * inner_stride()]) * scale;
        }
        tile[line * (SIDE_OF_TILE + 1u) + inner] = value;
    }
    workgroupBarrier();
    let line = thread / 8u;
    let inner = thread % 8u * 4u;
    if first_line + line >= lines { return; }
    let start = line * (SIDE_OF_TILE + 1u) + inner;
    for (var part = 0u; part < PARTS; part++) {
        let to = (batch * PARTS + part) * lines * params.padded + (first_line + line) * params.padded + first_inner + inner;
        out[to / 4u] = vec4(
            part_of(tile[start], part),
            part_of(tile[start + 1u], part),
            part_of(tile[start + 2u], part),
            part_of(tile[start + 3u], part),
        );
    }
}

fn scale_of(line: u32) -> f32 {
    if PARTS == 1u { return 1.0; }
    return scales[line];
}
