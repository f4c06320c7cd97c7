//! Output of device code: the text on standard output, by a second process, for libtest keeps that
//! of its own.

use std::process::Command;

use ptx_emulator::{Device, DeviceConfig, LaunchConfig, Module};

/// Each thread prints its number, that number negated, times 1.5, as a letter, and a string of
/// device and one of local memory.
const SAY: &str = r"
.version 8.1
.target sm_90
.address_size 64
.extern .func (.param .b32 r) vprintf (.param .b64 a, .param .b64 b);
.global .align 1 .b8 format[24] = {FORMAT};
.global .align 1 .b8 hi[4] = {104, 105, 0, 0};
.visible .entry say(.param .u64 y)
{
    .local .align 8 .b8 frame[64];
    .reg .b32 %r<8>;
    .reg .b64 %rd<10>;
    .reg .f64 %fd<3>;
    .reg .b16 %h<2>;
    mov.u64 %rd1, frame;
    cvta.local.u64 %rd2, %rd1;
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %ntid.x;
    mov.u32 %r3, %tid.x;
    mad.lo.s32 %r3, %r1, %r2, %r3;
    st.local.u32 [%rd1], %r3;
    neg.s32 %r4, %r3;
    cvt.s64.s32 %rd3, %r4;
    st.local.u64 [%rd1+8], %rd3;
    mov.u64 %rd4, hi;
    cvta.global.u64 %rd4, %rd4;
    st.local.u64 [%rd1+16], %rd4;
    cvt.rn.f64.s32 %fd1, %r3;
    mul.f64 %fd2, %fd1, 0d3FF8000000000000;
    st.local.f64 [%rd1+24], %fd2;
    and.b32 %r5, %r3, 15;
    add.s32 %r5, %r5, 65;
    st.local.u32 [%rd1+32], %r5;
    add.s64 %rd5, %rd2, 48;
    st.local.u64 [%rd1+40], %rd5;
    mov.u16 %h1, 111;
    st.local.u8 [%rd1+48], %h1;
    mov.u16 %h1, 107;
    st.local.u8 [%rd1+49], %h1;
    mov.u16 %h1, 0;
    st.local.u8 [%rd1+50], %h1;
    mov.u64 %rd6, format;
    cvta.global.u64 %rd6, %rd6;
    {
        .param .b64 a;
        st.param.b64 [a], %rd6;
        .param .b64 b;
        st.param.b64 [b], %rd2;
        .param .b32 r;
        call (r), vprintf, (a, b);
        ld.param.b32 %r6, [r];
    }
    ld.param.u64 %rd7, [y];
    mad.wide.u32 %rd7, %r3, 4, %rd7;
    st.global.u32 [%rd7], %r6;
    ret;
}
";

/// Output of thread `i`.
fn line(i: i64) -> String {
    let letter = char::from(b'A' + (i as u8 & 15));
    format!("{i} {} hi {:.6} {letter} ok\n", -i, i as f64 * 1.5)
}

/// Standard output and standard error of [`child_prints`] in a process of its own.
fn printed(grid: u32, block: u32, bytes: usize) -> [String; 2] {
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args([
            "--exact",
            "printing::child_prints",
            "--ignored",
            "--nocapture",
        ])
        .env("PRINTING_TEST", format!("{grid} {block} {bytes}"))
        .output()
        .expect("it runs");
    let texts = [output.stdout, output.stderr];
    let [out, error] = texts.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{out}{error}");
    [out, error]
}

/// Child process of [`printed`]: a launch of `PRINTING_TEST` (blocks, threads, bytes of the
/// buffer).
#[test]
#[ignore = "child process of the tests of this file"]
fn child_prints() {
    let variable = std::env::var("PRINTING_TEST").expect("run by another test");
    let numbers: Vec<usize> = variable
        .split(' ')
        .map(|number| number.parse().expect("a number"))
        .collect();
    let (grid, block) = (numbers[0] as u32, numbers[1] as u32);
    let mut config = DeviceConfig::new(90);
    config.print_bytes = numbers[2];
    let device = Device::new(config);
    let bytes: Vec<String> = "%d %lld %s %f %c %s\n\0"
        .bytes()
        .map(|byte| byte.to_string())
        .collect();
    let text = SAY.replace("FORMAT", &bytes.join(", "));
    let module = Module::parse(&text).unwrap_or_else(|error| panic!("{error}"));
    let loaded = device.load(&module).expect("the module fits");
    let kernel = loaded.kernel("say").expect("the kernel");
    let threads = (grid * block) as usize;
    let memory = device.memory();
    let y = memory.alloc(4 * threads as u64).expect("enough memory");
    device
        .launch(&kernel, LaunchConfig::linear(grid, block), &y.to_le_bytes())
        .unwrap_or_else(|fault| panic!("{fault}"));
    let mut counts = vec![0; 4 * threads];
    memory.read(y, &mut counts).expect("inside the buffer");
    // Six places have been filled.
    assert_eq!(counts, [6, 0, 0, 0].repeat(threads));
}

#[test]
fn threads_print_block_by_block() {
    let [out, error] = printed(5, 3, 1 << 20);
    let all: String = (0..15).map(line).collect();
    assert!(out.contains(&format!("\n{all}")), "{out}");
    assert!(!error.contains("printed"), "{error}");
}

/// Pieces of up to 1024 bytes with 64 more each: with the first line that is too much, the oldest
/// piece goes.
#[test]
fn the_oldest_text_is_lost() {
    const LIMIT: usize = 2000;
    let lines: Vec<String> = (0..128).map(line).collect();
    let (mut pieces, mut lost) = (vec![String::new()], 0);
    for line in &lines {
        match pieces.last_mut() {
            Some(last) if last.len() + line.len() <= 1024 => last.push_str(line),
            _ => pieces.push(line.clone()),
        }
        while pieces.iter().map(|piece| piece.len() + 64).sum::<usize>() > LIMIT {
            lost += pieces.remove(0).len();
        }
    }
    assert!(lost > 0);
    let [out, error] = printed(1, 128, LIMIT);
    assert!(out.contains(&pieces.concat()), "{out}");
    assert!(!out.contains("\n0 0 hi"), "{out}");
    let note = format!("kernel say printed {lost} bytes more than the {LIMIT} bytes");
    assert!(error.contains(&note), "{error}");
}
