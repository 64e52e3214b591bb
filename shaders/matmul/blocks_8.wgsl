alias left_block = coop_mat8x8<f16, A>;
alias right_block = coop_mat8x8<f16, B>;
alias sum_block = coop_mat8x8<f32, C>;
const SIDE: u32 = 8u;

