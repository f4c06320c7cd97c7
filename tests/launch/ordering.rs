//! Safe uses of streams while their work is under way: drop them, drop buffers, read in several of
//! them, use per-thread ones. Each test compares the results with the reference.
//!
//! A missing wait seldom shows on its own. So [`work_that_waits_until_it_is_asked_for`] runs this
//! file again with an emulator that does a stream's work only when somebody waits for it, where
//! every missing wait is a wrong result, and in random orders.

use std::process::Command;
use std::thread;

use crate::common::{Case, gpu, integers, small_conv};
use cudarc::driver::{CudaContext, CudaSlice, CudaStream};
use warpconv::device::{DeviceKind, Gpu};
use warpconv::launch::{ConvBuffers, Prepared};
use warpconv::plan::Plan;
use warpconv::problem::Conv2d;

/// A convolution in a context that nothing else uses.
struct Job {
    gpu: Gpu,
    plan: Prepared<Conv2d>,
    case: Case,
    x: CudaSlice<f32>,
    w: CudaSlice<f32>,
    bias: CudaSlice<f32>,
    y: CudaSlice<f32>,
}

impl Job {
    fn new() -> Job {
        Job::on(Gpu::new(CudaContext::new(gpu().context().ordinal()).unwrap()).unwrap())
    }

    fn on(gpu: Gpu) -> Job {
        let case = Case::new(small_conv(), 3);
        let plan = Plan::new(&case.problem, gpu.capability()).unwrap();
        let y = gpu.upload(&vec![0.0; case.y.len()]).unwrap();
        Job {
            plan: gpu.prepare(&plan).unwrap(),
            x: gpu.upload(&case.x).unwrap(),
            w: gpu.upload(&case.w).unwrap(),
            bias: gpu.upload(&case.bias).unwrap(),
            y,
            case,
            gpu,
        }
    }

    fn launch(&mut self, stream: &CudaStream) {
        let buffers = ConvBuffers::new(&self.x, &self.w, &mut self.y).bias(&self.bias);
        self.plan.launch(stream, buffers).unwrap();
    }

    /// An output beside the job's own.
    fn other(&self) -> CudaSlice<f32> {
        self.gpu.upload(&vec![0.0; self.case.y.len()]).unwrap()
    }

    /// Drops the input and has its memory written by whoever gets it next: the allocator gives
    /// freed memory of the same size.
    fn reuse_input(mut self) -> (Gpu, CudaSlice<f32>, Vec<f32>) {
        let nothing = self.gpu.upload(&[0.0]).unwrap();
        let len = self.x.len();
        drop(std::mem::replace(&mut self.x, nothing));
        let poison = vec![f32::NAN; len];
        let again: Vec<_> = (0..4).map(|_| self.gpu.upload(&poison).unwrap()).collect();
        self.gpu.stream().synchronize().unwrap();
        drop(again);
        (self.gpu, self.y, self.case.y)
    }
}

#[test]
fn a_stream_may_be_dropped_before_its_result_is_read() {
    let mut job = Job::new();
    let stream = job.gpu.context().new_stream().unwrap();
    job.launch(&stream);
    drop(stream);
    assert_eq!(job.gpu.download(&job.y).unwrap(), job.case.y);
}

#[test]
fn cudarc_waits_for_it_too() {
    let mut job = Job::new();
    let stream = job.gpu.context().new_stream().unwrap();
    job.launch(&stream);
    drop(stream);
    assert_eq!(job.gpu.stream().clone_dtoh(&job.y).unwrap(), job.case.y);
}

#[test]
fn a_stream_and_a_buffer_may_be_dropped_together() {
    let mut job = Job::new();
    let stream = job.gpu.context().new_stream().unwrap();
    job.launch(&stream);
    drop(stream);
    let (gpu, y, want) = job.reuse_input();
    assert_eq!(gpu.download(&y).unwrap(), want);
}

#[test]
fn the_device_and_the_plan_may_be_dropped_as_well() {
    let mut job = Job::new();
    let stream = job.gpu.context().new_stream().unwrap();
    job.launch(&stream);
    drop(stream);
    let (context, y, want) = (job.gpu.context().clone(), job.y, job.case.y);
    drop((job.gpu, job.plan));
    assert_eq!(context.default_stream().clone_dtoh(&y).unwrap(), want);
}

#[test]
fn per_thread_streams_wait_for_each_other() {
    let mut job = Job::new();
    let context = job.gpu.context().clone();
    let job = thread::spawn(move || {
        job.launch(&context.per_thread_stream());
        job
    })
    .join()
    .unwrap();
    let theirs = job.gpu.context().per_thread_stream();
    assert_eq!(theirs.clone_dtoh(&job.y).unwrap(), job.case.y);
}

#[test]
fn two_streams_read_a_buffer_that_is_dropped() {
    let mut job = Job::new();
    let [first, second] = [(); 2].map(|()| job.gpu.context().new_stream().unwrap());
    job.launch(&first);
    let mut other = job.other();
    let buffers = ConvBuffers::new(&job.x, &job.w, &mut other).bias(&job.bias);
    job.plan.launch(&second, buffers).unwrap();
    let (gpu, y, want) = job.reuse_input();
    assert_eq!(gpu.download(&y).unwrap(), want);
    assert_eq!(gpu.download(&other).unwrap(), want);
}

#[test]
fn two_streams_read_a_buffer_that_is_written_next() {
    let mut job = Job::new();
    let [first, second] = [(); 2].map(|()| job.gpu.context().new_stream().unwrap());
    job.launch(&first);
    let mut other = job.other();
    let buffers = ConvBuffers::new(&job.x, &job.w, &mut other).bias(&job.bias);
    job.plan.launch(&second, buffers).unwrap();
    let poison = vec![f32::NAN; job.x.len()];
    second.memcpy_htod(&poison, &mut job.x).unwrap();
    second.synchronize().unwrap();
    assert_eq!(job.gpu.download(&job.y).unwrap(), job.case.y);
}

#[test]
fn reading_an_input_back_hides_no_launch_that_reads_it() {
    let mut job = Job::new();
    let stream = job.gpu.context().new_stream().unwrap();
    job.launch(&stream);
    assert_eq!(job.gpu.download(&job.x).unwrap(), job.case.x);
    let (gpu, y, want) = job.reuse_input();
    assert_eq!(gpu.download(&y).unwrap(), want);
}

#[test]
fn streams_that_begin_behind_a_launch_see_its_result() {
    let mut job = Job::new();
    let stream = job.gpu.stream().clone();
    job.launch(&stream);
    // Of the two only the fork is ordered by itself.
    let _fork = stream.fork().unwrap();
    let other = job.gpu.context().new_stream().unwrap();
    assert_eq!(other.clone_dtoh(&job.y).unwrap(), job.case.y);
}

#[test]
fn what_was_queued_before_the_device_was_known_is_waited_for() {
    let context = CudaContext::new(gpu().context().ordinal()).unwrap();
    let case = Case::new(small_conv(), 3);
    let default = context.default_stream();
    let mut x = default.clone_htod(&vec![0.0; case.x.len()]).unwrap();
    let values = default.clone_htod(&case.x).unwrap();
    let stream = context.new_stream().unwrap();
    stream.memcpy_dtod(&values, &mut x).unwrap();
    drop(stream);
    let mut job = Job::on(Gpu::new(context).unwrap());
    job.x = x;
    let stream = job.gpu.stream().clone();
    job.launch(&stream);
    assert_eq!(job.gpu.download(&job.y).unwrap(), case.y);
}

#[test]
fn halves_of_a_buffer_are_written_in_two_streams() {
    let mut job = Job::new();
    let streams = [(); 2].map(|()| job.gpu.context().new_stream().unwrap());
    let mut both = job.gpu.upload(&vec![0.0; 2 * job.case.y.len()]).unwrap();
    let (mut a, mut b) = both.split_at_mut(job.case.y.len());
    thread::scope(|scope| {
        for (stream, half) in streams.iter().zip([&mut a, &mut b]) {
            let (plan, x, w, bias) = (&job.plan, &job.x, &job.w, &job.bias);
            let mut queue = move || plan.launch(stream, ConvBuffers::new(x, w, half).bias(bias));
            scope.spawn(move || queue().unwrap());
        }
    });
    drop(streams);
    let got = job.gpu.download(&both).unwrap();
    assert_eq!(got, [job.case.y.as_slice(), &job.case.y].concat());
    job.y = both;
}

#[test]
fn a_buffer_of_another_context_is_not_downloaded() {
    let (job, other) = (Job::new(), Job::new());
    let error = job.gpu.download(&other.x).unwrap_err();
    assert_eq!(error, warpconv::Error::WrongContext { what: "the buffer" });
    let none = job.gpu.upload::<f32>(&[]).unwrap();
    assert!(job.gpu.download(&none).unwrap().is_empty());
    let part = integers(5, 1);
    let whole = job.gpu.upload(&part).unwrap();
    assert_eq!(job.gpu.download(&whole.slice(1..4)).unwrap(), part[1..4]);
}

/// Runs all other tests of this file again, in processes of their own.
#[test]
fn work_that_waits_until_it_is_asked_for() {
    const SCHEDULE: &str = "PTX_EMULATOR_SCHEDULE";
    if gpu().kind() == DeviceKind::Gpu || std::env::var_os(SCHEDULE).is_some() {
        return;
    }
    for schedule in ["lazy", "random:1", "random:2"] {
        let again = Command::new(std::env::current_exe().unwrap())
            .arg("ordering::")
            .env(SCHEDULE, schedule)
            .output()
            .unwrap();
        assert!(
            again.status.success(),
            "{schedule}:\n{}\n{}",
            String::from_utf8_lossy(&again.stdout),
            String::from_utf8_lossy(&again.stderr)
        );
    }
}
