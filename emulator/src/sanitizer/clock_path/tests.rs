//! Random programs on two shadows: one uses the fast paths, the other checks unit by unit.
use super::*;
use crate::random::Random;
use crate::sanitizer::async_proxy::{AsyncReader, COPY_READERS};
use crate::sanitizer::fences::Fences;
use crate::sanitizer::shadow::Conflict;
use std::collections::HashMap;

const BYTES: usize = 96;
/// Warps per block. With two blocks the last warps have the low bits of the first ones.
const WARPS: usize = 17;
/// Warps that access memory: of the first block, whose memory it is, and of the second one.
const USED: [[usize; 4]; 2] = [[0, 1, 2, 16], [17, 31, 32, 33]];
const LANES: usize = 4;
/// Barriers of tracked copies.
const SLOTS: usize = 3;

/// A result of an access: the first faulty unit and its conflict.
type Found = Result<(), (usize, Conflict)>;

/// An access or another event of a program.
#[derive(Clone, Debug)]
enum Step {
    /// Reads of lanes, each of the same number of units.
    Read(Vec<(Actor, usize)>, usize),
    Write(Actor, Range<usize>, bool),
    /// The start of a `cp.async`.
    Begin(Actor, Range<usize>),
    /// A bulk copy to shared memory.
    Load(Actor, Range<usize>, Tracked),
    /// A read of the asynchronous proxy by some warps.
    ReadAsync(Range<u32>, Actor, Vec<usize>, usize),
}

/// State of a program.
struct State {
    order: Order,
    fences: Fences,
    shadow: Shadow,
    syncs: Vec<u32>,
    phases: Vec<u32>,
    blocks: usize,
}

impl State {
    fn new(random: &mut Random, shift: u32) -> State {
        let blocks = 1 + usize::from(random.chance(30));
        let mut order = Order::new(WARPS, blocks, true);
        if random.chance(20) {
            order.watch_flags();
        }
        order.begin_block();
        let mut shadow = Shadow::new(BYTES, shift, &order);
        if random.chance(70) {
            shadow.watch_reads(BYTES, 2);
        }
        let mut state = State {
            fences: Fences::new(WARPS * blocks),
            shadow,
            order,
            syncs: vec![0; WARPS * blocks],
            phases: vec![0; SLOTS],
            blocks,
        };
        if random.chance(70) {
            state.write_all(random);
        }
        state
    }

    /// Writes every unit by one warp, for all others to read.
    fn write_all(&mut self, random: &mut Random) {
        let actor = plain(self.actor(random));
        for unit in 0..BYTES >> self.shadow.shift {
            let written = self.shadow.write(unit, &self.order, &actor, false);
            assert_eq!(written, Ok(()));
        }
        let (warp, lanes) = (actor.warp as usize, (u32::MAX, true));
        (self.fences).add(&mut self.order, warp, lanes, actor.sync, false);
        let time = self.order.arrive();
        let others = USED[..self.blocks].as_flattened();
        self.order.join(&[(warp, time)], others);
    }

    fn warp(&self, random: &mut Random) -> usize {
        let other = self.blocks > 1 && random.chance(30);
        USED[usize::from(other)][random.below(4)]
    }

    fn actor(&self, random: &mut Random) -> Actor {
        let warp = self.warp(random);
        Actor {
            warp: warp as u32,
            lane: random.below(LANES) as u32,
            pc: random.below(3) as u32,
            sync: self.syncs[warp],
            strong: random.chance(10),
        }
    }

    fn units(&self, random: &mut Random, len: usize) -> Range<usize> {
        let first = random.below((BYTES >> self.shadow.shift) / len) * len;
        first..first + len
    }

    /// Something that orders accesses, or changes the shadow without a check.
    fn event(&mut self, random: &mut Random) {
        let warps = USED[..self.blocks].as_flattened();
        let warp = self.warp(random);
        let unit = self.units(random, 1).start;
        match random.below(20) {
            0 => self.order.full_barrier(),
            1..=6 => {
                // A barrier of some warps.
                let some = warps.iter().copied().filter(|_| random.chance(60));
                let some: Vec<usize> = some.collect();
                let arrived: Vec<_> = some.iter().map(|&w| (w, self.order.arrive())).collect();
                self.order.join(&arrived, &some);
                some.iter().for_each(|&w| self.syncs[w] += 1);
            }
            7 | 8 => self.syncs[warp] += 1,
            9 | 10 => {
                let slot = random.below(SLOTS);
                self.phases[slot] += u32::from(random.chance(50));
                let phases = self.phases[slot];
                for &warp in warps {
                    if random.chance(60) {
                        self.order.learn_phase(warp, slot, phases);
                    }
                }
            }
            11..=14 => {
                let lanes = match random.chance(70) {
                    true => (u32::MAX, true),
                    false => (1 << random.below(LANES), false),
                };
                let only_init = random.chance(10);
                let sync = self.syncs[warp];
                (self.fences).add(&mut self.order, warp, lanes, sync, only_init);
            }
            15 | 16 => {
                let reader = if random.chance(60) {
                    random.below(2)
                } else {
                    COPY_READERS + random.below(WARPS)
                };
                let now = self.order.now;
                self.order.learn_read(warp, reader, now);
            }
            17 => {
                // The thread of a copy waits for it.
                let pending = |&unit: &usize| self.shadow.stamps[unit] == PENDING;
                let pending = (0..self.shadow.stamps.len()).find(pending);
                if let Some(unit) = pending {
                    let info = self.shadow.writers[unit].info;
                    let (warp, lane) = (info >> 6, info & 31);
                    let actor = Actor {
                        warp,
                        lane,
                        pc: 0,
                        sync: self.syncs[warp as usize],
                        strong: false,
                    };
                    let units = unit..unit + 1;
                    self.shadow.end_copy(units, &self.order, &actor);
                }
            }
            18 if random.chance(30) => self.shadow.set_barrier(unit, random.chance(50)),
            19 if random.chance(20) => {
                self.order.begin_block();
                self.fences.clear();
                self.shadow.begin_block();
                self.shadow.forget_writes();
            }
            _ => {}
        }
    }

    fn step(&mut self, random: &mut Random) -> Step {
        let largest = 16 >> self.shadow.shift;
        let mut len = 1 << random.below(5);
        while len > largest {
            len /= 2;
        }
        let actor = self.actor(random);
        let units = self.units(random, len);
        match random.below(10) {
            0..=2 => {
                let lanes = 1 + random.below(LANES);
                let first = self.units(random, len).start;
                let lanes = (0..lanes).map(|lane| {
                    let other = Actor {
                        lane: lane as u32,
                        ..actor
                    };
                    let unit = match random.chance(70) {
                        true => (first + lane * len) % (BYTES >> self.shadow.shift),
                        false => self.units(random, len).start,
                    };
                    (other, unit)
                });
                Step::Read(lanes.collect(), len)
            }
            3..=5 => Step::Write(actor, units, random.chance(30)),
            6 => Step::Begin(plain(actor), units),
            7 => {
                let slot = random.below(SLOTS);
                let copy = Tracked {
                    pc: actor.pc,
                    slot,
                    phase: self.phases[slot],
                    ordinary: random.chance(30),
                };
                let count = 1 + random.below(units.len() * 4);
                let end = (units.start + count).min(BYTES >> self.shadow.shift);
                Step::Load(plain(actor), units.start..end, copy)
            }
            _ => {
                let warps = match random.chance(50) {
                    true => 0..4,
                    false => actor.warp..actor.warp + 1,
                };
                let pieces = 1 + random.below(3);
                let pieces = (0..pieces).map(|_| self.units(random, largest).start);
                Step::ReadAsync(warps, plain(actor), pieces.collect(), largest)
            }
        }
    }
}

fn plain(actor: Actor) -> Actor {
    Actor {
        strong: false,
        ..actor
    }
}

/// Executes a step unit by unit.
fn slow(state: &State, shadow: &mut Shadow, step: &Step) -> Found {
    let (order, fences) = (&state.order, &state.fences);
    match step.clone() {
        Step::Read(lanes, len) => {
            for (actor, first) in lanes {
                for unit in first..first + len {
                    shadow.read(unit, order, &actor).map_err(|c| (unit, c))?;
                }
            }
        }
        Step::Write(actor, units, same) => {
            for unit in units {
                (shadow.write(unit, order, &actor, same)).map_err(|c| (unit, c))?;
            }
        }
        Step::Begin(actor, units) => {
            for unit in units {
                (shadow.begin_copy(unit, order, &actor)).map_err(|c| (unit, c))?;
            }
        }
        Step::Load(actor, units, copy) => {
            for unit in units.clone() {
                let check = || {
                    shadow.check_written(unit, order, &actor, false)?;
                    if shadow.stamps[unit] < BARRIER {
                        let lane = Some(actor.lane);
                        shadow.check_fence(unit, order, fences, actor.warp, lane)?;
                    }
                    shadow.check_readers(unit, order, &actor, false)?;
                    shadow.check_readers(unit, order, &actor, true)?;
                    shadow.check_asynchronous_readers(unit, order, actor.warp)
                };
                check().map_err(|conflict| (unit, conflict))?;
            }
            shadow.track(units, copy);
        }
        Step::ReadAsync(warps, actor, pieces, len) => {
            let together = warps.len() > 1;
            for unit in pieces.iter().flat_map(|&first| first..first + len) {
                for warp in warps.clone() {
                    let actor = Actor { warp, ..actor };
                    let check = || {
                        shadow.check_written(unit, order, &actor, true)?;
                        let lane = (!together).then_some(actor.lane);
                        shadow.check_fence(unit, order, fences, warp, lane)
                    };
                    check().map_err(|conflict| (unit, conflict))?;
                }
            }
        }
    }
    Ok(())
}

/// Executes a step as the instructions do. Also returns whether the fast path was sufficient.
fn fast(state: &State, shadow: &mut Shadow, step: &Step) -> (Found, bool) {
    let (order, fences) = (&state.order, &state.fences);
    match step.clone() {
        Step::Read(lanes, len) => {
            let actor = lanes[0].0;
            let mut unique: Vec<usize> = Vec::new();
            for &(_, unit) in &lanes {
                if !unique.contains(&unit) {
                    unique.push(unit);
                }
            }
            let reader = (actor.warp, actor.sync);
            if !actor.strong && shadow.read_small(unique.into_iter(), len, order, reader) {
                return (Ok(()), true);
            }
        }
        Step::Write(actor, units, _) => {
            let (first, len) = (units.start, units.len());
            if shadow.write_small(first, len, order, &actor, false) {
                return (Ok(()), true);
            }
        }
        Step::Begin(actor, units) => {
            if shadow.write_small(units.start, units.len(), order, &actor, true) {
                return (Ok(()), true);
            }
        }
        Step::Load(actor, units, copy) => {
            let found = shadow.begin_tracked(units, order, &actor, fences, copy);
            return (found, true);
        }
        Step::ReadAsync(warps, actor, pieces, len) => {
            let mut reader = AsyncReader::new(warps, fences, actor);
            let mut quick = false;
            for first in pieces {
                if shadow.may_read_async(first, len, &reader) {
                    quick = true;
                    continue;
                }
                for unit in first..first + len {
                    if let Err(conflict) = shadow.read_async(unit, order, &mut reader) {
                        return (Err((unit, conflict)), quick);
                    }
                }
            }
            return (Ok(()), quick);
        }
    }
    (slow(state, shadow, step), false)
}

#[test]
fn fast_paths_find_and_record_what_single_units_do() {
    let mut random = Random(1);
    let mut counts: HashMap<(String, bool), usize> = HashMap::new();
    for program in 0..4000 {
        let mut state = State::new(&mut random, program % 3);
        for _ in 0..60 {
            for _ in 0..random.below(4) {
                state.event(&mut random);
            }
            let step = state.step(&mut random);
            let (mut shadow, mut expected) = (state.shadow.clone(), state.shadow.clone());
            let (found, quick) = fast(&state, &mut shadow, &step);
            let wanted = slow(&state, &mut expected, &step);
            assert_eq!(found, wanted, "{step:?}");
            let name = format!("{step:?} {found:?}");
            let (kind, _) = name.split_once('(').unwrap_or((&name, ""));
            let kind = match &found {
                Ok(()) => kind.to_owned(),
                Err((_, conflict)) => {
                    let conflict = format!("{conflict:?}");
                    let end = conflict.find([' ', '(']).unwrap_or(conflict.len());
                    format!("{kind} {}", &conflict[..end])
                }
            };
            *counts.entry((kind, quick)).or_default() += 1;
            // A fault ends a program: here its access is taken back.
            if found.is_err() {
                continue;
            }
            assert!(shadow.has_same_state(&expected), "{step:?}");
            state.shadow = shadow;
            note(&mut state, &step, &mut random);
        }
    }
    // Each path is taken, and each conflict found.
    let count = |kind: &str, quick| counts.get(&(kind.to_owned(), quick)).copied().unwrap_or(0);
    for kind in ["Read", "Write", "Begin", "ReadAsync"] {
        assert!(
            count(kind, true) > 300 && count(kind, false) > 300,
            "{kind}: {counts:?}"
        );
    }
    let slow = [
        "Read Uninitialised",
        "Read Written",
        "Read Pending",
        "Read Tracked",
        "Read Barrier",
        "Write Written",
        "Write ReadBy",
        "Write Pending",
        "Write Tracked",
        "Write AsyncRead",
        "Begin Written",
        "Begin ReadBy",
        "Begin AsyncRead",
    ];
    for kind in slow {
        assert!(count(kind, false) > 20, "{kind}: {counts:?}");
    }
    for kind in [
        "Load",
        "Load Written",
        "Load ReadBy",
        "Load Unfenced",
        "Load AsyncRead",
    ] {
        assert!(count(kind, true) > 20, "{kind}: {counts:?}");
    }
    for kind in [
        "ReadAsync Uninitialised",
        "ReadAsync Tracked",
        "ReadAsync Unfenced",
    ] {
        assert!(count(kind, false) > 20, "{kind}: {counts:?}");
    }
}

/// Records an asynchronous read, which instructions do after their checks.
fn note(state: &mut State, step: &Step, random: &mut Random) {
    let Step::ReadAsync(warps, actor, pieces, _) = step else {
        return;
    };
    if state.shadow.asynchronous.is_off() {
        return;
    }
    let time = state.order.arrive();
    let reader = match warps.len() {
        1 => COPY_READERS + actor.warp as usize % WARPS,
        _ => random.below(2),
    };
    for first in pieces {
        let place = first >> (4 - state.shadow.shift);
        state.shadow.note_async_read(place, reader, time);
    }
}

#[test]
fn a_write_that_passed_stands_for_no_write_of_another_warp_or_count() {
    // Two blocks: warps 0 and 32 have the same low bits.
    let mut order = Order::new(WARPS, 2, true);
    order.begin_block();
    let actor = |warp, sync| Actor {
        warp,
        lane: 3,
        pc: 0,
        sync,
        strong: false,
    };
    // The second write is at the same time, of the same warp after a synchronisation, or of a warp
    // that no barrier orders.
    for second in [actor(0, 1), actor(32, 0)] {
        let mut shadow = Shadow::new(BYTES, 2, &order);
        assert_eq!(shadow.write(0, &order, &actor(0, 0), false), Ok(()));
        assert_eq!(shadow.write(1, &order, &second, false), Ok(()));
        assert!(shadow.read_small([0].into_iter(), 1, &order, (0, 1)));
        assert!(!shadow.read_small([1].into_iter(), 1, &order, (0, 1)));
        assert!(!shadow.read_small([0].into_iter(), 2, &order, (0, 1)));
        assert!(!shadow.read_small([0, 1].into_iter(), 1, &order, (0, 1)));
    }
}
