//! cuDNN's graph interface: safe wrappers of descriptors with attributes.

use std::ffi::c_void;

use cudarc::cudnn::sys::{
    self, cudnnBackendAttributeName_t as Name, cudnnBackendAttributeType_t as Type,
    cudnnBackendDescriptorType_t as Kind, cudnnBackendHeurMode_t as Mode, cudnnConvolutionMode_t,
    cudnnDataType_t, cudnnPointwiseMode_t,
};
use warpconv::launch::ConvPointers;
use warpconv::problem::{Conv2d, TensorDesc};
use warpconv::{DType, Layout};

use super::descriptors::{data_type, strides};
use super::{Cudnn, Failure, checked};

/// A descriptor of the graph interface.
pub struct Descriptor(sys::cudnnBackendDescriptor_t);

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: made by `new` and not destroyed before. A failure cannot be handled here.
        let _status = unsafe { sys::cudnnBackendDestroyDescriptor(self.0) };
    }
}

impl Descriptor {
    /// Creates an empty descriptor.
    pub fn new(kind: Kind) -> Result<Descriptor, Failure> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: the pointer outlives the call.
        let status = unsafe { sys::cudnnBackendCreateDescriptor(kind, &mut raw) };
        checked("cudnnBackendCreateDescriptor", status)?;
        Ok(Descriptor(raw))
    }

    /// Finalizes the descriptor.
    pub fn finalize(self) -> Result<Descriptor, Failure> {
        // SAFETY: the descriptor is live.
        checked("cudnnBackendFinalize", unsafe {
            sys::cudnnBackendFinalize(self.0)
        })?;
        Ok(self)
    }

    /// # Safety
    /// `T` must be the element type of attributes of type `kind`.
    unsafe fn set<T>(&self, name: Name, kind: Type, values: &[T]) -> Result<(), Failure> {
        let count = values.len() as i64;
        // SAFETY: the descriptor is live, and `values` holds its length of elements of the
        // attribute's type.
        let status = unsafe {
            sys::cudnnBackendSetAttribute(self.0, name, kind, count, values.as_ptr().cast())
        };
        checked("cudnnBackendSetAttribute", status)
    }

    /// Sets an attribute of integers.
    pub fn numbers(&self, name: Name, values: &[i64]) -> Result<(), Failure> {
        // SAFETY: INT64 is i64.
        unsafe { self.set(name, Type::CUDNN_TYPE_INT64, values) }
    }

    /// Sets a Boolean attribute.
    pub fn flag(&self, name: Name, value: bool) -> Result<(), Failure> {
        // SAFETY: BOOLEAN is C's bool, which is Rust's.
        unsafe { self.set(name, Type::CUDNN_TYPE_BOOLEAN, &[value]) }
    }

    /// Sets a floating-point attribute.
    pub fn float(&self, name: Name, value: f32) -> Result<(), Failure> {
        // SAFETY: FLOAT is f32.
        unsafe { self.set(name, Type::CUDNN_TYPE_FLOAT, &[value]) }
    }

    /// Sets an attribute that is an element type.
    pub fn element(&self, name: Name, value: cudnnDataType_t) -> Result<(), Failure> {
        // SAFETY: DATA_TYPE is this enum.
        unsafe { self.set(name, Type::CUDNN_TYPE_DATA_TYPE, &[value]) }
    }

    /// Sets an attribute of other descriptors, which must be finalized.
    pub fn descriptors(&self, name: Name, values: &[&Descriptor]) -> Result<(), Failure> {
        let raw: Vec<_> = values.iter().map(|value| value.0).collect();
        // SAFETY: BACKEND_DESCRIPTOR is this pointer.
        unsafe { self.set(name, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR, &raw) }
    }

    /// Sets an attribute that is cuDNN's handle.
    pub fn handle(&self, name: Name, cudnn: &Cudnn) -> Result<(), Failure> {
        // SAFETY: HANDLE is this pointer.
        unsafe { self.set(name, Type::CUDNN_TYPE_HANDLE, &[cudnn.handle]) }
    }

    /// Sets an attribute of device addresses.
    pub fn addresses(&self, name: Name, values: &[*mut c_void]) -> Result<(), Failure> {
        // SAFETY: VOID_PTR is this pointer.
        unsafe { self.set(name, Type::CUDNN_TYPE_VOID_PTR, values) }
    }

    /// Reads an integer attribute.
    pub fn number(&self, name: Name) -> Result<i64, Failure> {
        let (mut count, mut value) = (0i64, 0i64);
        let kind = Type::CUDNN_TYPE_INT64;
        let into = std::ptr::from_mut(&mut value).cast();
        // SAFETY: the descriptor is live and there is room for one number.
        let status =
            unsafe { sys::cudnnBackendGetAttribute(self.0, name, kind, 1, &mut count, into) };
        checked("cudnnBackendGetAttribute", status)?;
        Ok(value)
    }

    /// Reads an attribute of enumeration values as integers: a newer library may have more values
    /// than the bindings name.
    pub fn notes(&self, name: Name, kind: Type) -> Result<Vec<i32>, Failure> {
        const ROOM: usize = 32;
        let (mut count, mut values) = (0i64, [0i32; ROOM]);
        let into = values.as_mut_ptr().cast();
        // SAFETY: the descriptor is live, enumerations are ints, and the buffer has room for all of
        // them.
        let status = unsafe {
            sys::cudnnBackendGetAttribute(self.0, name, kind, ROOM as i64, &mut count, into)
        };
        checked("cudnnBackendGetAttribute", status)?;
        let count = usize::try_from(count).unwrap_or(0).min(ROOM);
        Ok(values[..count].to_vec())
    }

    /// Reads an attribute of descriptors of a kind, at most `most` of them.
    pub fn list(&self, name: Name, kind: Listed, most: usize) -> Result<Vec<Descriptor>, Failure> {
        let mut found = Vec::with_capacity(most);
        for _ in 0..most {
            found.push(Descriptor::new(kind.of())?);
        }
        let mut raw: Vec<_> = found.iter().map(|one| one.0).collect();
        let mut count = 0i64;
        // SAFETY: the descriptor is live, and the array holds as many live descriptors of the
        // attribute's kind to be filled.
        let status = unsafe {
            sys::cudnnBackendGetAttribute(
                self.0,
                name,
                Type::CUDNN_TYPE_BACKEND_DESCRIPTOR,
                most as i64,
                &mut count,
                raw.as_mut_ptr().cast(),
            )
        };
        checked("cudnnBackendGetAttribute", status)?;
        found.truncate(usize::try_from(count).unwrap_or(0));
        Ok(found)
    }
}

/// Kinds of descriptors that are read as lists.
#[derive(Clone, Copy, Debug)]
pub enum Listed {
    /// Engine configurations.
    Configuration,
    /// Engines.
    Engine,
    /// Knob choices of an engine.
    Knob,
}

impl Listed {
    fn of(self) -> Kind {
        match self {
            Listed::Configuration => Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR,
            Listed::Engine => Kind::CUDNN_BACKEND_ENGINE_DESCRIPTOR,
            Listed::Knob => Kind::CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR,
        }
    }
}

/// Ids of the tensors that an execution plan reads and writes.
const X: i64 = 1;
const W: i64 = 2;
const BIAS: i64 = 3;
const Y: i64 = 4;
/// Ids of virtual tensors, which are not stored in memory.
const SUM: i64 = 5;
const BIASED: i64 = 6;

/// Alignment of every address, in bytes.
const ALIGNMENT: i64 = 16;

/// A convolution as an operation graph.
pub struct Graph {
    graph: Descriptor,
    fused: bool,
    /// Descriptors that the graph refers to, kept alive as long as the graph.
    _parts: Vec<Descriptor>,
}

impl Graph {
    /// The convolution alone, or with bias and ReLU fused into the graph.
    pub fn new(cudnn: &Cudnn, conv: &Conv2d, fused: bool) -> Result<Graph, Failure> {
        let float = cudnnDataType_t::CUDNN_DATA_FLOAT;
        let own = data_type(conv.input().dtype());
        let x = tensor(
            X,
            &extents(conv.input()),
            &strides(conv.input()),
            own,
            false,
        )?;
        let (dims, filter_strides) = filter(conv);
        let w = tensor(W, &dims, &filter_strides, own, false)?;
        let (dims, out) = (extents(conv.output()), strides(conv.output()));
        let y = tensor(Y, &dims, &out, own, false)?;
        let window = window(conv)?;
        let mut parts = vec![x, w, window];
        let mut operations = Vec::new();
        if fused {
            let k = conv.output().c() as i64;
            let bias_strides = match conv.input().layout() {
                Layout::Nchw => [k, 1, 1, 1],
                Layout::Nhwc => [k, 1, k, k],
            };
            let bias = tensor(BIAS, &[1, k, 1, 1], &bias_strides, own, false)?;
            let sum = tensor(SUM, &dims, &out, float, true)?;
            let biased = tensor(BIASED, &dims, &out, float, true)?;
            let add = pointwise_kind(cudnnPointwiseMode_t::CUDNN_POINTWISE_ADD)?;
            let relu = pointwise_kind(cudnnPointwiseMode_t::CUDNN_POINTWISE_RELU_FWD)?;
            operations.push(convolution(&parts[2], &parts[0], &parts[1], &sum)?);
            operations.push(pointwise(&add, &sum, Some(&bias), &biased)?);
            operations.push(pointwise(&relu, &biased, None, &y)?);
            parts.extend([bias, sum, biased, add, relu]);
        } else {
            operations.push(convolution(&parts[2], &parts[0], &parts[1], &y)?);
        }
        parts.push(y);
        let graph = Descriptor::new(Kind::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)?;
        graph.handle(Name::CUDNN_ATTR_OPERATIONGRAPH_HANDLE, cudnn)?;
        let all: Vec<&Descriptor> = operations.iter().collect();
        graph.descriptors(Name::CUDNN_ATTR_OPERATIONGRAPH_OPS, &all)?;
        let graph = graph.finalize()?;
        parts.extend(operations);
        Ok(Graph {
            graph,
            fused,
            _parts: parts,
        })
    }

    /// Returns whether bias and ReLU are part of the graph.
    pub fn is_fused(&self) -> bool {
        self.fused
    }

    /// The engine configurations that a heuristic returns, best first.
    pub fn heuristic(&self, mode: Mode) -> Result<Vec<Descriptor>, Failure> {
        const MAX: usize = 64;
        let heuristic = Descriptor::new(Kind::CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)?;
        let graph = Name::CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH;
        heuristic.descriptors(graph, &[&self.graph])?;
        // SAFETY: HEUR_MODE is this enum.
        unsafe {
            let name = Name::CUDNN_ATTR_ENGINEHEUR_MODE;
            heuristic.set(name, Type::CUDNN_TYPE_HEUR_MODE, &[mode])?;
        }
        heuristic.finalize()?.list(
            Name::CUDNN_ATTR_ENGINEHEUR_RESULTS,
            Listed::Configuration,
            MAX,
        )
    }

    /// Number of engines for the graph.
    pub fn engines(&self) -> Result<i64, Failure> {
        self.graph
            .number(Name::CUDNN_ATTR_OPERATIONGRAPH_ENGINE_GLOBAL_COUNT)
    }

    /// An engine in its default configuration.
    pub fn engine(&self, index: i64) -> Result<Descriptor, Failure> {
        let engine = Descriptor::new(Kind::CUDNN_BACKEND_ENGINE_DESCRIPTOR)?;
        let graph = Name::CUDNN_ATTR_ENGINE_OPERATION_GRAPH;
        engine.descriptors(graph, &[&self.graph])?;
        engine.numbers(Name::CUDNN_ATTR_ENGINE_GLOBAL_INDEX, &[index])?;
        let engine = engine.finalize()?;
        let configuration = Descriptor::new(Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)?;
        configuration.descriptors(Name::CUDNN_ATTR_ENGINECFG_ENGINE, &[&engine])?;
        configuration.finalize()
    }
}

/// An execution plan.
pub struct Plan {
    plan: Descriptor,
    fused: bool,
    /// Bytes of workspace.
    pub workspace: u64,
    /// The engine and its knobs.
    pub name: String,
    /// Numerical notes of the engine.
    pub notes: Vec<i32>,
}

impl Plan {
    /// Builds the plan of a configuration; an error where cuDNN cannot.
    pub fn new(cudnn: &Cudnn, graph: &Graph, configuration: &Descriptor) -> Result<Plan, Failure> {
        let (name, notes) = describe(configuration)?;
        let plan = Descriptor::new(Kind::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)?;
        plan.handle(Name::CUDNN_ATTR_EXECUTION_PLAN_HANDLE, cudnn)?;
        let config = Name::CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG;
        plan.descriptors(config, &[configuration])?;
        let plan = plan.finalize()?;
        let bytes = plan.number(Name::CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE)?;
        Ok(Plan {
            plan,
            fused: graph.is_fused(),
            workspace: u64::try_from(bytes).unwrap_or(0),
            name,
            notes,
        })
    }

    /// The operands of one execution as a reusable variant pack.
    pub fn pack(&self, at: &ConvPointers, workspace: *mut c_void) -> Result<Descriptor, Failure> {
        let pack = Descriptor::new(Kind::CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)?;
        let mut numbers = vec![X, W, Y];
        let mut addresses = vec![at.x, at.w, at.y];
        if self.fused {
            numbers.push(BIAS);
            addresses.push(at.bias);
        }
        let addresses: Vec<_> = addresses.iter().map(|&at| at as *mut c_void).collect();
        pack.numbers(Name::CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, &numbers)?;
        pack.addresses(Name::CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, &addresses)?;
        pack.addresses(Name::CUDNN_ATTR_VARIANT_PACK_WORKSPACE, &[workspace])?;
        pack.finalize()
    }

    /// Queues an execution of the plan.
    ///
    /// # Safety
    /// The addresses in the pack are of device memory of the handle's context, as long as the
    /// problem requires; the workspace is as long as the plan's. All stay valid until the stream
    /// has done the work.
    pub unsafe fn execute(&self, cudnn: &Cudnn, pack: &Descriptor) -> Result<(), Failure> {
        // SAFETY: the caller guarantees the contents of the pack; plan and pack are live and
        // finalized.
        let status = unsafe { sys::cudnnBackendExecute(cudnn.handle, self.plan.0, pack.0) };
        checked("cudnnBackendExecute", status)
    }
}

/// Name of an engine with its knobs, and its numerical notes.
fn describe(configuration: &Descriptor) -> Result<(String, Vec<i32>), Failure> {
    const KNOBS: usize = 32;
    let engines = configuration.list(Name::CUDNN_ATTR_ENGINECFG_ENGINE, Listed::Engine, 1)?;
    let Some(engine) = engines.first() else {
        return Ok((String::from("an engine"), Vec::new()));
    };
    let index = engine.number(Name::CUDNN_ATTR_ENGINE_GLOBAL_INDEX)?;
    let name = Name::CUDNN_ATTR_ENGINE_NUMERICAL_NOTE;
    let notes = engine.notes(name, Type::CUDNN_TYPE_NUMERICAL_NOTE)?;
    let mut words = format!("engine {index}");
    let knobs = Name::CUDNN_ATTR_ENGINECFG_KNOB_CHOICES;
    // Only the name depends on it: the query may fail for a configuration without knobs.
    for knob in configuration
        .list(knobs, Listed::Knob, KNOBS)
        .unwrap_or_default()
    {
        let kind = knob.notes(
            Name::CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE,
            Type::CUDNN_TYPE_KNOB_TYPE,
        );
        let value = knob.number(Name::CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE);
        if let (Ok(kind), Ok(value)) = (kind, value) {
            let kind = kind.first().copied().unwrap_or(-1);
            words.push_str(&format!(" k{kind}={value}"));
        }
    }
    Ok((words, notes))
}

fn extents(desc: &TensorDesc) -> [i64; 4] {
    [desc.n(), desc.c(), desc.h(), desc.w()].map(|extent| extent as i64)
}

/// Extents and strides of dense filters: KCRS with NCHW, KRSC with NHWC.
fn filter(conv: &Conv2d) -> ([i64; 4], [i64; 4]) {
    let [k, c, r, s] = [
        conv.output().c(),
        conv.filter().c,
        conv.filter().r,
        conv.filter().s,
    ]
    .map(|extent| extent as i64);
    let strides = match conv.input().layout() {
        Layout::Nchw => [c * r * s, r * s, s, 1],
        Layout::Nhwc => [c * r * s, 1, s * c, c],
    };
    ([k, c, r, s], strides)
}

fn tensor(
    number: i64,
    dims: &[i64; 4],
    strides: &[i64; 4],
    element: cudnnDataType_t,
    is_virtual: bool,
) -> Result<Descriptor, Failure> {
    let tensor = Descriptor::new(Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR)?;
    tensor.numbers(Name::CUDNN_ATTR_TENSOR_UNIQUE_ID, &[number])?;
    tensor.element(Name::CUDNN_ATTR_TENSOR_DATA_TYPE, element)?;
    tensor.numbers(Name::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, &[ALIGNMENT])?;
    tensor.numbers(Name::CUDNN_ATTR_TENSOR_DIMENSIONS, dims)?;
    tensor.numbers(Name::CUDNN_ATTR_TENSOR_STRIDES, strides)?;
    tensor.flag(Name::CUDNN_ATTR_TENSOR_IS_VIRTUAL, is_virtual)?;
    tensor.finalize()
}

/// The convolution descriptor, with f32 accumulation.
fn window(conv: &Conv2d) -> Result<Descriptor, Failure> {
    let window = Descriptor::new(Kind::CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR)?;
    let pair = |pair: [usize; 2]| pair.map(|value| value as i64);
    let padding = conv.window().padding;
    let sums = cudnnDataType_t::CUDNN_DATA_FLOAT;
    window.numbers(Name::CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, &[2])?;
    window.element(Name::CUDNN_ATTR_CONVOLUTION_COMP_TYPE, sums)?;
    // SAFETY: CONVOLUTION_MODE is this enum.
    unsafe {
        window.set(
            Name::CUDNN_ATTR_CONVOLUTION_CONV_MODE,
            Type::CUDNN_TYPE_CONVOLUTION_MODE,
            &[cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION],
        )?;
    }
    let before = pair([padding.top, padding.left]);
    let behind = pair([padding.bottom, padding.right]);
    window.numbers(Name::CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, &before)?;
    window.numbers(Name::CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, &behind)?;
    let (stride, dilation) = (pair(conv.window().stride), pair(conv.window().dilation));
    window.numbers(Name::CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, &stride)?;
    window.numbers(Name::CUDNN_ATTR_CONVOLUTION_DILATIONS, &dilation)?;
    window.finalize()
}

fn convolution(
    window: &Descriptor,
    x: &Descriptor,
    w: &Descriptor,
    y: &Descriptor,
) -> Result<Descriptor, Failure> {
    let operation = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR)?;
    let window_name = Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC;
    operation.descriptors(window_name, &[window])?;
    operation.descriptors(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, &[x])?;
    operation.descriptors(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, &[w])?;
    operation.descriptors(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, &[y])?;
    operation.float(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, 1.0)?;
    operation.float(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, 0.0)?;
    operation.finalize()
}

fn pointwise_kind(mode: cudnnPointwiseMode_t) -> Result<Descriptor, Failure> {
    let pointwise = Descriptor::new(Kind::CUDNN_BACKEND_POINTWISE_DESCRIPTOR)?;
    let float = cudnnDataType_t::CUDNN_DATA_FLOAT;
    // SAFETY: POINTWISE_MODE is this enum.
    unsafe {
        let name = Name::CUDNN_ATTR_POINTWISE_MODE;
        pointwise.set(name, Type::CUDNN_TYPE_POINTWISE_MODE, &[mode])?;
    }
    pointwise.element(Name::CUDNN_ATTR_POINTWISE_MATH_PREC, float)?;
    pointwise.finalize()
}

fn pointwise(
    kind: &Descriptor,
    x: &Descriptor,
    b: Option<&Descriptor>,
    y: &Descriptor,
) -> Result<Descriptor, Failure> {
    let operation = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)?;
    operation.descriptors(Name::CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, &[kind])?;
    operation.descriptors(Name::CUDNN_ATTR_OPERATION_POINTWISE_XDESC, &[x])?;
    if let Some(b) = b {
        operation.descriptors(Name::CUDNN_ATTR_OPERATION_POINTWISE_BDESC, &[b])?;
    }
    operation.descriptors(Name::CUDNN_ATTR_OPERATION_POINTWISE_YDESC, &[y])?;
    operation.finalize()
}

/// Returns whether an engine's arithmetic is precise enough for the problem: f32 arithmetic for
/// f32, tf32 where the mode permits it, and f32 accumulation. Inputs must not be converted to fewer
/// bits.
pub fn is_exact_enough(notes: &[i32], conv: &Conv2d) -> bool {
    use sys::cudnnBackendNumericalNote_t as Note;
    use warpconv::kernels::Math;
    let has = |note: Note| notes.contains(&(note as i32));
    let strict = conv.input().dtype() == DType::F32 && conv.math() != Math::Tf32;
    let rounds = has(Note::CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS)
        || has(Note::CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION);
    !(rounds || strict && has(Note::CUDNN_NUMERICAL_NOTE_TENSOR_CORE))
}

/// Name of the transform (Winograd or FFT) of an engine, if it has one. A transform reduces the
/// number of products and changes the rounding.
pub fn transforms(notes: &[i32]) -> Option<&'static str> {
    use sys::cudnnBackendNumericalNote_t as Note;
    let has = |note: Note| notes.contains(&(note as i32));
    match () {
        () if has(Note::CUDNN_NUMERICAL_NOTE_WINOGRAD) => Some("winograd"),
        () if has(Note::CUDNN_NUMERICAL_NOTE_FFT) => Some("fft"),
        () => None,
    }
}
