//! `ldmatrix`, `stmatrix`, `movmatrix`.
//!
//! PTX ISA: of a matrix of eight rows of eight elements of 16 bits, lane `l` has elements
//! `2 * (l % 4)` and the next of row `l / 4`; transposed, those of column `l / 4`. Lane `8 * j + i`
//! gives the address of row `i` of matrix `j`.

use super::harness::{Lanes, Random, run};

/// Stores each lane's first eight words at its 32 bytes of the tile.
const FILL: &str = "shl.b32 %t0, %i2, 5; add.u32 %t0, %t0, %s;
    st.shared.v4.b32 [%t0], {%a0,%a1,%a2,%a3}; st.shared.v4.b32 [%t0+16], {%a4,%a5,%a6,%a7}; \
    bar.sync 0;";

/// Addresses of the lanes: rows of 16 bytes, each once, in an order that is not that of the lanes.
fn rows() -> Vec<u32> {
    (0..32).map(|lane| lane * 37 % 64).collect()
}

/// The half at a row of the tile.
fn half(lanes: &Lanes, row: u32, column: usize) -> u32 {
    let byte = row as usize * 16 + 2 * column;
    lanes[byte / 32][byte % 32 / 4] >> (8 * (byte % 4)) & 0xffff
}

fn filled() -> Lanes {
    let mut random = Random(77);
    let rows = rows();
    (0..32)
        .map(|lane| {
            let mut words: Vec<u32> = (0..8).map(|_| random.bits() as u32).collect();
            words.push(rows[lane] * 16);
            words
        })
        .collect()
}

#[test]
fn rows_come_to_their_lanes() {
    let lanes = filled();
    let rows = rows();
    for (count, trans, space) in [
        (1, "", ".shared"),
        (2, "", ".shared::cta"),
        (4, "", ".shared"),
        (1, ".trans", ".shared"),
        (2, ".trans", ".shared"),
        (4, ".trans", ""),
    ] {
        let list = ["%d0", "%d0,%d1", "", "%d0,%d1,%d2,%d3"][count - 1];
        // Without a space the address is a generic one.
        let address = if space.is_empty() {
            "cvt.u64.u32 %l3, %t1; cvta.shared.u64 %l3, %l3;"
        } else {
            "mov.u32 %t2, %t1;"
        };
        let operand = if space.is_empty() { "%l3" } else { "%t2" };
        let code = format!(
            "{FILL} add.u32 %t1, %s, %a8; {address}
            ldmatrix.sync.aligned.m8n8.x{count}{trans}{space}.b16 {{{list}}}, [{operand}];"
        );
        let (got, counters) = run(&code, 9, count, std::slice::from_ref(&lanes));
        for (lane, words) in got[0].iter().enumerate() {
            for (matrix, &word) in words.iter().enumerate() {
                let (major, minor) = (lane / 4, 2 * (lane % 4));
                let want = [0, 1].map(|i| {
                    let (row, column) = if trans.is_empty() {
                        (major, minor + i)
                    } else {
                        (minor + i, major)
                    };
                    half(&lanes, rows[8 * matrix + row], column)
                });
                assert_eq!(
                    word,
                    want[0] | want[1] << 16,
                    "{code} lane {lane}, matrix {matrix}"
                );
            }
        }
        assert_eq!(counters.shared_loads.requests, 1);
        assert!(counters.shared_loads.wavefronts >= count as u64);
    }
}

#[test]
fn what_is_stored_comes_back() {
    let lanes = filled();
    for (count, trans) in [
        (1, ""),
        (2, ""),
        (4, ""),
        (1, ".trans"),
        (2, ".trans"),
        (4, ".trans"),
    ] {
        let list = ["%a0", "%a0,%a1", "", "%a0,%a1,%a2,%a3"][count - 1];
        let loads: String = (0..4)
            .map(|i| format!("ld.shared.b32 %d{i}, [%t1+{}];", 4 * i))
            .collect();
        // Each lane that gave an address reads its row back.
        let code = format!(
            "{FILL} add.u32 %t1, %s, %a8;
            stmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 [%t1], {{{list}}}; bar.sync 0; \
            {loads}"
        );
        let (got, counters) = run(&code, 9, 4, std::slice::from_ref(&lanes));
        for (lane, words) in got[0].iter().enumerate().take(8 * count) {
            let (matrix, row) = (lane / 8, lane % 8);
            for column in 0..8 {
                let (r, c) = if trans.is_empty() {
                    (row, column)
                } else {
                    (column, row)
                };
                let want = lanes[4 * r + c / 2][matrix] >> (16 * (c % 2)) & 0xffff;
                let found = words[column / 2] >> (16 * (column % 2)) & 0xffff;
                assert_eq!(found, want, "{code} lane {lane}, column {column}");
            }
        }
        assert_eq!(counters.shared_stores.requests, 3);
    }
}

#[test]
fn matrices_transpose_in_registers() {
    let lanes = filled();
    let (got, _) = run(
        "movmatrix.sync.aligned.m8n8.trans.b16 %d0, %a0;",
        9,
        1,
        std::slice::from_ref(&lanes),
    );
    for (lane, words) in got[0].iter().enumerate() {
        for i in 0..2 {
            let (row, column) = (2 * (lane % 4) + i, lane / 4);
            let want = lanes[4 * row + column / 2][0] >> (16 * (column % 2)) & 0xffff;
            assert_eq!(words[0] >> (16 * i) & 0xffff, want, "lane {lane}");
        }
    }
}

#[test]
fn bank_conflicts_are_those_of_eight_rows_at_a_time() {
    // The same four banks for all rows of a matrix; half of them; rows side by side; one row for
    // all.
    for (stride, wavefronts) in [
        (128, 32),
        (64, 16),
        (32, 8),
        (16, 4),
        (144, 4),
        (80, 4),
        (0, 4),
    ] {
        let code = format!(
            "mov.u32 %t0, %i2; LOOP: shl.b32 %t1, %t0, 2; add.u32 %t1, %t1, %s; st.shared.b32 \
            [%t1], %t0;
            add.u32 %t0, %t0, 32; setp.lt.u32 %p, %t0, 1024; @%p bra LOOP; bar.sync 0;
            and.b32 %t2, %i2, 7; mad.lo.u32 %t1, %t2, {stride}, %s; shr.u32 %t3, %i2, 3; shl.b32 \
            %t3, %t3, 4;
            add.u32 %t1, %t1, %t3;
            ldmatrix.sync.aligned.m8n8.x4.shared.b16 {{%d0,%d1,%d2,%d3}}, [%t1];"
        );
        let (_, counters) = run(&code, 0, 4, &[vec![Vec::new(); 32]]);
        let loads = counters.shared_loads;
        assert_eq!(
            (loads.requests, loads.wavefronts, loads.conflicts),
            (1, wavefronts, wavefronts - 4),
            "stride {stride}"
        );
    }
}
