//! The text of a [`Fault`]: a headline, its position, and details.

use super::{Fault, FaultKind, Region, space_name};
use std::fmt;

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_headline(f, &self.kind)?;
        if let FaultKind::InvalidLaunch(_) = *self.kind {
            return write!(f, "\n  kernel {}", self.kernel);
        }
        let [x, y, z] = self.block;
        write!(f, "\n  kernel {}", self.kernel)?;
        if self.line != 0 {
            write!(f, ", PTX line {}", self.line)?;
        }
        write!(f, ", block ({x},{y},{z})")?;
        if let Some([x, y, z]) = self.thread {
            write!(f, ", thread ({x},{y},{z})")?;
        }
        write_details(f, &self.kind)
    }
}

/// Writes the first line of a report. Long because it is a table with one entry per fault.
fn write_headline(f: &mut fmt::Formatter<'_>, kind: &FaultKind) -> fmt::Result {
    use FaultKind as K;
    match kind {
        K::OutOfBounds { touch, .. } => write!(f, "out of bounds: {touch}"),
        K::UseAfterFree { touch, .. } => write!(f, "use after free: {touch}"),
        K::Misaligned { touch, align, .. } => {
            write!(f, "misaligned: {touch} needs a multiple of {align}")
        }
        K::Uninitialised { touch, .. } => write!(f, "uninitialised: {touch}"),
        K::ReadOnly { touch, .. } => write!(f, "read-only memory: {touch}"),
        K::WrongSpace { touch, actual } => {
            write!(
                f,
                "wrong state space: {touch}, an address of {} memory",
                space_name(*actual)
            )
        }
        K::SharedRace { touch, rival, .. } => write!(f, "race: {touch} against a {rival}"),
        K::AsyncCopyPending { touch, .. } => {
            write!(f, "asynchronous copy not waited for: {touch}")
        }
        K::DivergentBarrier { id, arrived, alive } => write!(
            f,
            "divergent barrier {id}: lanes {arrived:#010x} of the warp arrived, lanes {:#010x} did \
            not",
            alive & !arrived
        ),
        K::ExitedAtBarrier {
            id,
            exited,
            arrived,
            expected,
        } => write!(
            f,
            "exited threads at barrier {id}: {arrived} of {expected} threads arrived, {exited} \
            have exited"
        ),
        K::BadBarrier { id, count } => write!(f, "bad barrier: number {id}, {count} threads"),
        K::BarrierOperand { first, other } => write!(
            f,
            "barrier operand differs between lanes of a warp: {other}, where the first lane has \
            {first}"
        ),
        K::TooManyBarriers => write!(
            f,
            "too many barriers and fences: the block has passed 2^25 of them, the most that races \
            can be told for"
        ),
        K::Deadlock { waiting } => {
            let cluster = waiting.iter().any(|w| w.block.is_some());
            let all = if cluster { "cluster" } else { "block" };
            write!(f, "deadlock: no warp of the {all} can go on")
        }
        K::DivergentWarp { named, active } => write!(
            f,
            "divergent warp operation: its mask names lanes {named:#010x}, lanes {active:#010x} \
            execute it"
        ),
        K::BadWarpMask { named, active } => write!(
            f,
            "bad warp mask: {named:#010x} does not name every executing lane of {active:#010x}, or \
            differs between them"
        ),
        K::MissingLanes { active } => write!(
            f,
            "lanes are missing: all of the warp must execute the instruction together, lanes \
            {:#010x} do not",
            !active
        ),
        K::BranchIndex { index, len } => {
            write!(
                f,
                "branch index {index} is past the {len} entries of its table"
            )
        }
        K::Trap => write!(f, "trap"),
        K::Assert {
            message,
            file,
            line,
            function,
        } => {
            write!(f, "assertion failed: {file}:{line}: {function}: {message}")
        }
        K::InstructionLimit { limit } => {
            write!(
                f,
                "instruction limit: a warp executed more than {limit} instructions"
            )
        }
        K::TimeLimit { milliseconds } => {
            let seconds = *milliseconds as f64 / 1e3;
            write!(
                f,
                "time limit: the launch took longer than {seconds} seconds"
            )
        }
        K::TooMany { what, most } => write!(f, "too many {what}: more than {most}"),
        K::Internal(message) => f.write_str(message),
        K::Asynchronous(fault) => fault.headline(f),
        K::Cluster(fault) => fault.headline(f),
        K::InCluster { fault, .. } => write_headline(f, fault),
        K::InvalidLaunch(message) => write!(f, "invalid launch: {message}"),
    }
}

fn write_details(f: &mut fmt::Formatter<'_>, kind: &FaultKind) -> fmt::Result {
    use FaultKind as K;
    match kind {
        K::OutOfBounds { touch, nearest }
        | K::Misaligned { touch, nearest, .. }
        | K::ReadOnly {
            touch,
            region: nearest,
        } => match nearest {
            Some(region) => {
                write!(f, "\n  nearest allocation: {region}; ")?;
                position(f, touch.address, region)
            }
            None => write!(f, "\n  there is no allocation"),
        },
        K::UseAfterFree { touch, region } => {
            write!(f, "\n  freed allocation: {region}; ")?;
            position(f, touch.address, region)
        }
        K::Uninitialised {
            touch,
            first,
            nearest,
        } => {
            write!(f, "\n  first byte never written: {first:#x}")?;
            match nearest {
                Some(region) => {
                    write!(f, "\n  nearest allocation: {region}; ")?;
                    position(f, touch.address, region)
                }
                None => Ok(()),
            }
        }
        K::SharedRace { at, nearest, .. } => {
            write!(f, "\n  first byte of both: {at:#x}")?;
            match nearest {
                Some(region) => write!(f, "\n  nearest allocation: {region}"),
                None => Ok(()),
            }
        }
        K::AsyncCopyPending {
            owner: [x, y, z], ..
        } => {
            write!(f, "\n  the copy was started by thread ({x},{y},{z})")
        }
        K::Deadlock { waiting } => {
            for warp in waiting {
                write!(f, "\n  {warp}")?;
            }
            Ok(())
        }
        K::InstructionLimit { .. } => write!(
            f,
            "\n  the limit is set by PTX_EMULATOR_INSTRUCTIONS, or in DeviceConfig"
        ),
        K::TimeLimit { .. } => write!(
            f,
            "\n  the limit is set by PTX_EMULATOR_SECONDS, or in DeviceConfig"
        ),
        K::Asynchronous(fault) => fault.details(f),
        K::Cluster(fault) => fault.details(f),
        K::InCluster {
            block: [x, y, z],
            fault,
        } => {
            write_details(f, fault)?;
            write!(f, "\n  in the shared memory of block ({x},{y},{z})")
        }
        _ => Ok(()),
    }
}

/// Writes the position of an address relative to a region.
fn position(f: &mut fmt::Formatter<'_>, address: u64, region: &Region) -> fmt::Result {
    let end = region.base + region.bytes;
    if address >= end {
        write!(f, "the access begins {} bytes past its end", address - end)
    } else if address < region.base {
        write!(
            f,
            "the access begins {} bytes before it",
            region.base - address
        )
    } else {
        write!(f, "the access begins at its byte {}", address - region.base)
    }
}
