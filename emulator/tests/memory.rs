//! The host's way to device memory through the Rust API.

use ptx_emulator::{Device, DeviceConfig};
use std::time::{Duration, Instant};

/// An allocation is not touched before somebody uses it: 4 GiB and their shadow would take seconds to write.
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
