// out[b] (+)= act(scale A[b] B[b] + bias), any row and column strides, batch axes broadcast by strides of 0. A dispatch sums
// one block of the inner axis; the first writes, the others accumulate, bias and activation come with the last.
// Of operands in two parts (pack.wgsl): how far apart these lie, and how long a line is. Of a block of a larger matrix: where it
// begins there.
struct Params {
    batch_shape: array<vec4<u32>, 2>,
    a_batch: array<vec4<u32>, 2>,
    b_batch: array<vec4<u32>, 2>,
    m: u32,
    n: u32,
    inner: u32,
    batches: u32,
    batch_rank: u32,
    a_row: u32,
    a_col: u32,
    b_row: u32,
    b_col: u32,
    a_offset: u32,
    b_offset: u32,
    out_offset: u32,
    first_group: u32,
    has_bias: u32,
    accumulate: u32,
    scale: f32,
    alpha: f32,
    beta: f32,
    a_part: u32,
    b_part: u32,
    padded: u32,
    first_row: u32,
    first_col: u32,
    pad0: u32,
}
@group(0) @binding(0) var<uniform> params: Params;

// Where the matrices of a batch begin in A and in B.
fn origins(batch: u32) -> vec2<u32> {
    var at = vec2(params.a_offset, params.b_offset);
    var rest = batch;
    for (var axis = params.batch_rank; axis > 0u; axis--) {
        let i = axis - 1u;
        let size = params.batch_shape[i / 4u][i % 4u];
        at += (rest % size) * vec2(params.a_batch[i / 4u][i % 4u], params.b_batch[i / 4u][i % 4u]);
        rest = rest / size;
    }
    return at;
}
