//! LeNet-5's layers in the grammar of cases: the hyperbolic tangent and the trainable subsampling.

use serde_json::Value;
use warpconv::Error;
use warpconv::problem::{Activation, Subsample, Tanh};
use warpconv_testing::reference;

use super::graph::{self, Op};
use super::lower::Storage;

/// Parameters of a subsampling in a case.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Subsampling {
    /// Rows and columns.
    pub window: [usize; 2],
    /// Rows and columns between two windows.
    pub stride: [usize; 2],
    /// True for the mean of a window, false for its sum.
    pub mean: bool,
    pub activation: Activation,
}

/// Parses `tanh`: `amplitude * tanh(slope * x)`, both 1 by default.
pub fn tanh(params: &Value) -> Result<Op, String> {
    let [amplitude, slope] = scales(params)?;
    Ok(Op::Tanh { amplitude, slope })
}

/// Parses `subsample`: `kernel`, `stride` (the kernel by default), `mean` (false), and an
/// `activation`: `none`, `relu` or `tanh` with its `amplitude` and `slope`.
pub fn subsample(params: &Value) -> Result<Op, String> {
    let window = graph::pair(params, "kernel")?;
    let given = |name: &str| params.get(name).filter(|value| !value.is_null());
    let stride = match given("stride") {
        None => window,
        Some(_) => graph::pair(params, "stride")?,
    };
    let mean = match given("mean") {
        None => false,
        Some(mean) => mean
            .as_bool()
            .ok_or_else(|| format!("`mean` holds {mean}, neither true nor false"))?,
    };
    let activation = match given("activation").map(Value::as_str) {
        None | Some(Some("none")) => Activation::Identity,
        Some(Some("relu")) => Activation::Relu,
        Some(Some("tanh")) => {
            let [amplitude, slope] = scales(params)?;
            Activation::Tanh { amplitude, slope }
        }
        Some(other) => {
            return Err(format!("`activation` is {other:?}, not none, relu or tanh"));
        }
    };
    Ok(Op::Subsample(Subsampling {
        window,
        stride,
        mean,
        activation,
    }))
}

/// Parses amplitude and slope.
fn scales(params: &Value) -> Result<[f64; 2], String> {
    let scale = |name: &str| match params.get(name) {
        None | Some(Value::Null) => Ok(1.0),
        Some(_) => graph::real(params, name),
    };
    Ok([scale("amplitude")?, scale("slope")?])
}

/// The problem of a tanh layer, whose output may be a slice of another tensor.
pub fn tanh_problem(
    x: [usize; 4],
    storage: Storage,
    slice: Option<(usize, usize)>,
    [amplitude, slope]: [f64; 2],
) -> Result<Tanh, Error> {
    let tanh = Tanh::new(x, storage.layout, storage.dtype)?;
    let tanh = match slice {
        Some((pitch, offset)) => {
            Tanh::between(tanh.input().clone(), tanh.output().slice(pitch, offset)?)?
        }
        None => tanh,
    };
    tanh.scaled(amplitude, slope)
}

impl Subsampling {
    /// The problem of the subsampling, whose output may be a slice of another tensor.
    pub fn problem(
        &self,
        x: [usize; 4],
        storage: Storage,
        slice: Option<(usize, usize)>,
    ) -> Result<Subsample, Error> {
        let made = Subsample::new(x, storage.layout, storage.dtype, self.window)?
            .stride(self.stride)?
            .mean(self.mean)
            .activation(self.activation)?;
        match slice {
            Some((pitch, offset)) => made.output_slice(pitch, offset),
            None => Ok(made),
        }
    }
}

/// Result in f64 of a subsampling of rounded operands, and the bound of each element's error before
/// it is rounded.
pub fn subsampled(
    problem: &Subsample,
    [x, coefficient, bias]: [&[f64]; 3],
) -> Result<(Vec<f64>, Vec<f64>), Error> {
    Ok((
        reference::subsample(problem, x, coefficient, bias)?,
        reference::subsample_bound(problem, x, coefficient, bias)?,
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn layers_of_lenet_are_read() {
        let read = |op: &str, params: Value| graph::operation(op, &params);
        assert_eq!(
            read("tanh", json!({"amplitude": 1.7159})),
            Ok(Op::Tanh {
                amplitude: 1.7159,
                slope: 1.0
            })
        );
        let params = json!({"kernel": [2, 3], "mean": true, "activation": "tanh", "slope": 0.5});
        let wanted = Subsampling {
            window: [2, 3],
            stride: [2, 3],
            mean: true,
            activation: Activation::Tanh {
                amplitude: 1.0,
                slope: 0.5,
            },
        };
        assert_eq!(read("subsample", params), Ok(Op::Subsample(wanted)));
        for (op, params, word) in [
            ("tanh", json!({"slope": "steep"}), "slope"),
            ("subsample", json!({}), "kernel"),
            ("subsample", json!({"kernel": [2, 2], "mean": 3}), "mean"),
            (
                "subsample",
                json!({"kernel": [2, 2], "activation": "gelu"}),
                "gelu",
            ),
        ] {
            let why = read(op, params).expect_err("nonsense");
            assert!(why.contains(word), "{why}");
        }
    }
}
