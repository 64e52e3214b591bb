// A matrix by a vector: out[line] = sum over p of A[line, p] b[p]. 256 invocations are 64 along what is contiguous by four
// along the other axis.
var<workgroup> parts: array<f32, 256>;

@compute @workgroup_size(256)
fn vector(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let lines = select(64u, 4u, A_ALONG_INNER == 1u);
    let slices = 256u / lines;
    let size = max(params.m, params.n);
    let of_batch = (size + lines - 1u) / lines;
    let unit = params.first_group + group_index(group, groups);
    let batch = unit / of_batch;
    if batch >= params.batches { return; }
    let origin = origins(batch);
    // Neighbours read neighbours.
    let own = select(thread % 64u, thread / 64u, A_ALONG_INNER == 1u);
    let slice = select(thread / 64u, thread % 64u, A_ALONG_INNER == 1u);
    let line = unit % of_batch * lines + own;
    let from_a = origin.x + min(line, size - 1u) * params.a_row;
    var sum = 0.0;
    for (var p = slice; p < params.inner; p += slices) {
        sum = fma(f32(a[from_a + p * params.a_col]), f32(b[origin.y + p * params.b_row]), sum);
    }
    parts[own * slices + slice] = sum;
    workgroupBarrier();
    for (var step = slices / 2u; step > 0u; step = step / 2u) {
        if slice < step { parts[own * slices + slice] += parts[own * slices + slice + step]; }
        workgroupBarrier();
    }
    if slice == 0u && line < size {
        put(batch, select(0u, line, params.n == 1u), select(line, 0u, params.n == 1u), parts[own * slices]);
    }
}
