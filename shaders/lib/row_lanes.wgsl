// Rows in registers: ROW_LANES invocations, one or whole subgroups of eight, share a row, PAIRS pairs of it each. Loops of that
// length are unrolled by the driver, which makes registers of the arrays.
const SUBGROUP: u32 = 8u;
const WIDTH: u32 = select(ROW_LANES, 64u, ROW_LANES <= SUBGROUP);
// Subgroups that share a row.
const PARTS: u32 = max(ROW_LANES / SUBGROUP, 1u);

var<workgroup> parts: array<vec2<f32>, PARTS>;

// From one pair of an invocation to its next: a subgroup's pairs follow one another.
const STEP: u32 = min(ROW_LANES, SUBGROUP);

// The first number of the row of an invocation of workgroup `group`. Those behind the last row do that one again.
fn row_begin(group: u32, thread: u32) -> u32 {
    return min((group * WIDTH + thread) / ROW_LANES, params.rows - 1u) * params.cols;
}

// An invocation's first pair of that row.
fn first_pair(row: u32, thread: u32) -> u32 {
    let own = thread % ROW_LANES;
    return row / 2u + own / SUBGROUP * PAIRS * SUBGROUP + own % SUBGROUP;
}

// The largest number of those that the invocations of a row in one subgroup have.
fn part_max(own: f32) -> f32 {
    if ROW_LANES == 1u { return own; }
    return subgroupMax(own);
}

fn part_sum(own: f32) -> f32 {
    if ROW_LANES == 1u { return own; }
    return subgroupAdd(own);
}

// The sum of exp(x - largest) over a row, from the sum of a subgroup with the largest x of its own.
fn row_sum(largest: f32, sum: f32, thread: u32) -> f32 {
    if PARTS == 1u { return sum; }
    parts[thread / SUBGROUP] = vec2(largest, sum);
    workgroupBarrier();
    var total = 0.0;
    for (var i = thread % SUBGROUP; i < PARTS; i += SUBGROUP) {
        total += parts[i].y * exp(parts[i].x - largest);
    }
    return subgroupAdd(total);
}
