//! Tests of the checker with programs of a few operations.

use super::*;

const SITE: Site = Site {
    context: 1,
    device: 0,
};

fn region(sequence: u64) -> Region {
    Region {
        sequence: Some(sequence),
        label: Some("y".to_owned()),
        base: 0x1000,
        bytes: 64,
    }
}

struct Program {
    order: Order,
    last: TaskId,
}

impl Program {
    fn new() -> Program {
        Program {
            order: Order::default(),
            last: 0,
        }
    }

    fn submit(&mut self, after: &[TaskId]) -> TaskId {
        self.last += 1;
        self.order.submitted(self.last, SITE, after);
        self.last
    }

    fn end(&mut self, task: TaskId, footprint: Footprint) -> Option<Conflict> {
        self.end_on(task, footprint, region(1))
    }

    fn end_on(&mut self, task: TaskId, footprint: Footprint, region: Region) -> Option<Conflict> {
        let operation = Operation {
            what: What::Kernel(format!("k{task}")),
            place: Place::Stream(task as usize, false),
            stream: task,
        };
        let access = Access {
            region,
            is_host: false,
            footprint,
        };
        self.order.ended(task, Some(operation), vec![access])
    }
}

fn write(first: u64, end: u64) -> Footprint {
    Footprint::writes(Bytes::range(first, end))
}

fn read(first: u64, end: u64) -> Footprint {
    Footprint::reads(Bytes::range(first, end))
}

#[test]
fn whoever_ends_second_finds_the_conflict_and_tells_it_the_same_way() {
    let mut texts = Vec::new();
    for order in [[1, 2], [2, 1]] {
        let mut program = Program::new();
        program.submit(&[]);
        program.submit(&[]);
        let touch = |task| {
            if task == 1 {
                write(0, 32)
            } else {
                read(16, 64)
            }
        };
        assert_eq!(program.end(order[0], touch(order[0])), None);
        let conflict = program.end(order[1], touch(order[1]));
        texts.push(conflict.expect("nothing orders them").to_string());
    }
    assert_eq!(texts[0], texts[1]);
    assert_eq!(
        texts[0],
        "not ordered: read of 16 bytes at 0x1010 is not ordered behind an earlier write of them\n  \
         kernel k2 in stream 0x2\n  \
         does not wait for kernel k1 in stream 0x1\n  \
         allocation: #1 \"y\" of 64 bytes at 0x1000; the bytes begin at its byte 16\n  \
         missing: an event recorded in stream 0x1 behind the kernel k1 that stream 0x2 waits for \
         (cuStreamWaitEvent) before the kernel k2, or a wait of the host between them"
    );
}

#[test]
fn the_first_byte_in_common_decides() {
    for (first, conflicts) in [(32, false), (31, true)] {
        let mut program = Program::new();
        program.submit(&[]);
        program.submit(&[]);
        assert_eq!(program.end(1, write(0, 32)), None);
        let found = program.end(2, write(first, 64));
        assert_eq!(
            found.map(|found| found.bytes),
            conflicts.then_some((31, 32))
        );
    }
}

#[test]
fn a_partial_write_does_not_hide_what_was_before() {
    let mut program = Program::new();
    let first = program.submit(&[]);
    let other = program.submit(&[first]);
    let second = program.submit(&[first]);
    assert_eq!(program.end(first, write(0, 64)), None);
    assert_eq!(program.end(second, write(0, 32)), None);
    // Ordered after the first, but not after the second, whose bytes it does not access.
    assert_eq!(program.end(other, write(32, 64)), None);
    let third = program.submit(&[second]);
    let found = program.end(third, read(0, 64)).expect("a conflict");
    assert_eq!(found.first.0.what, What::Kernel("k2".to_owned()));
}

#[test]
fn an_address_used_again_is_another_allocation() {
    let mut program = Program::new();
    program.submit(&[]);
    program.submit(&[]);
    assert_eq!(program.end_on(1, write(0, 64), region(1)), None);
    assert_eq!(program.end_on(2, write(0, 64), region(2)), None);
}

#[test]
fn a_free_by_the_host_waits_for_nothing() {
    let free = || Access {
        region: region(1),
        is_host: false,
        footprint: write(0, 64),
    };
    let mut program = Program::new();
    let task = program.submit(&[]);
    assert_eq!(program.end(task, read(8, 9)), None);
    let found = program.order.freed_by_host(free()).expect("a conflict");
    assert_eq!(found.bytes, (8, 9));
    let mut program = Program::new();
    let task = program.submit(&[]);
    assert_eq!(program.end(task, read(8, 9)), None);
    program.order.host_knows(Done::All(task));
    assert_eq!(program.order.freed_by_host(free()), None);
}

#[test]
fn histories_stay_short() {
    let mut program = Program::new();
    let mut last = program.submit(&[]);
    assert_eq!(program.end(last, write(0, 64)), None);
    for round in 0..5000 {
        last = program.submit(&[last]);
        let byte = round % 64;
        let touch = if round % 2 == 0 {
            read(byte, byte + 1)
        } else {
            write(byte, byte + 1)
        };
        assert_eq!(program.end(last, touch), None);
    }
    let length = program.order.histories[&0x1000].len();
    assert!(length <= 65, "{length} records");
    for sequence in 0..5000 {
        let task = program.submit(&[last]);
        let region = Region {
            base: 0x2000 + sequence * 0x1000,
            ..region(sequence)
        };
        assert_eq!(program.end_on(task, write(0, 64), region), None);
        program.order.host_knows(Done::Tasks(&[task]));
        last = task;
    }
    assert!(program.order.histories.len() < 200);
}
