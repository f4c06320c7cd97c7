//! The host's way to device memory through the Rust API.

use ptx_emulator::memory::{DEVICE_STRIDE, FIRST_ADDRESS, GUARD_BYTES};
use ptx_emulator::{Device, DeviceConfig, FaultKind, LaunchConfig, Module};
use std::time::{Duration, Instant};

/// An allocation is not touched before somebody uses it: 4 GiB and their shadow would take seconds
/// to write.
#[test]
fn large_allocations_cost_nothing_until_they_are_used() {
    let device = Device::new(DeviceConfig::new(80));
    let memory = device.memory();
    let began = Instant::now();
    let address = memory.alloc(4 << 30).expect("room for 4 GiB");
    memory.free(address).expect("it was allocated");
    let took = began.elapsed();
    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[test]
fn fills_repeat_their_pattern() {
    let device = Device::new(DeviceConfig::new(80));
    let memory = device.memory();
    for pattern in [&[7u8][..], &[1, 2], &[1, 2, 3, 4]] {
        for count in [1usize, 2, 3, 1000, 100_003] {
            let bytes = pattern.len() * count;
            let address = memory.alloc(bytes as u64 + 8).expect("room");
            memory.write(address, &vec![9; bytes + 8]).expect("inside");
            memory
                .fill(address + 4, pattern, count as u64)
                .expect("inside");
            let mut got = vec![0; bytes + 8];
            memory.read(address, &mut got).expect("inside");
            assert_eq!(&got[..4], [9; 4]);
            assert_eq!(got[4..4 + bytes], pattern.repeat(count));
            assert_eq!(&got[4 + bytes..], [9; 4]);
        }
    }
}

/// Two passes through the device's range of addresses, a gibibyte at a time, around an allocation
/// that stays.
#[test]
fn freed_addresses_come_again_when_all_were_used() {
    let device = Device::new(DeviceConfig::new(80));
    let memory = device.memory();
    let kept = memory.alloc(1 << 20).expect("room");
    memory.write(kept, &[5; 16]).expect("inside");
    let (mut lowest, mut again) = (u64::MAX, 0);
    for i in 0..2100 {
        let address = memory
            .alloc(1 << 30)
            .unwrap_or_else(|error| panic!("allocation {i}: {error}"));
        assert!(address >= kept + (1 << 20) + GUARD_BYTES, "{address:#x}");
        assert!(address + (1 << 30) <= FIRST_ADDRESS + DEVICE_STRIDE);
        again += u32::from(address == lowest);
        lowest = lowest.min(address);
        assert!(memory.free(address).is_ok());
    }
    assert_eq!(again, 2, "the range holds 1023 of them");
    let mut got = [0; 16];
    memory.read(kept, &mut got).expect("inside");
    assert_eq!(got, [5; 16]);
}

/// Grids that no card holds at a time cannot run with all blocks at once.
#[test]
fn cooperative_grids_are_bounded() {
    let device = Device::new(DeviceConfig::new(75));
    let text =
        ".version 6.3\n.target sm_75\n.address_size 64\n.visible .entry none()\n{\n    ret;\n}\n";
    let module = Module::parse(text).expect("good text");
    let kernel = device.load(&module).expect("loaded").kernel("none");
    let kernel = kernel.expect("the kernel");
    let counters = device
        .launch_cooperative(&kernel, LaunchConfig::linear(40, 32), &[])
        .expect("fits");
    assert_eq!(counters.blocks, 40);
    let fault = device.launch_cooperative(&kernel, LaunchConfig::linear(641, 32), &[]);
    assert!(matches!(
        fault.err().map(|fault| *fault.kind),
        Some(FaultKind::InvalidLaunch(_))
    ));
}

/// Shadow state moves with the bytes, whatever the offsets.
#[test]
fn copies_carry_what_was_written() {
    let device = Device::new(DeviceConfig::new(80));
    let memory = device.memory();
    // Bytes 3, 10..17, and 40..64 of 100 are written.
    let written = |i: u64| i == 3 || (10..17).contains(&i) || (40..64).contains(&i);
    for (from, to, bytes) in [
        (0, 0, 100),
        (0, 0, 97),
        (1, 1, 60),
        (2, 5, 70),
        (5, 2, 70),
        (3, 96, 2),
        (9, 16, 8),
        (37, 4, 1),
        (40, 8, 24),
    ] {
        for inside_one in [false, true] {
            let source = memory.alloc(100).expect("room");
            (0..100).filter(|&i| written(i)).for_each(|i| {
                memory.write(source + i, &[i as u8]).expect("inside");
            });
            let target = if inside_one {
                source
            } else {
                let target = memory.alloc(100).expect("room");
                memory.fill(target, &[1], 100).expect("inside");
                target
            };
            memory
                .copy(target + to, source + from, bytes)
                .expect("inside");
            for i in 0..100 {
                let expected = if (to..to + bytes).contains(&i) {
                    written(i - to + from)
                } else {
                    !inside_one || written(i)
                };
                assert_eq!(
                    memory.is_written(target + i, 1),
                    Ok(expected),
                    "byte {i} after {bytes} bytes from {from} to {to}"
                );
            }
        }
    }
}

/// The marks of a large copy are made in words: byte by byte it would take seconds.
#[test]
fn partly_written_memory_is_copied_quickly() {
    let device = Device::new(DeviceConfig::new(80));
    let memory = device.memory();
    let bytes = 256 << 20;
    let (source, target) = (memory.alloc(bytes), memory.alloc(bytes));
    let (source, target) = (source.expect("room"), target.expect("room"));
    memory.fill(source, &[1], bytes - 1).expect("inside");
    let began = Instant::now();
    memory.copy(target, source, bytes).expect("inside");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(memory.is_written(target, bytes - 1), Ok(true));
    assert_eq!(memory.is_written(target, bytes), Ok(false));
}
