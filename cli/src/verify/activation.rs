//! LeNet-5's layers in the grammar of cases: the hyperbolic tangent and the trainable subsampling.

use serde_json::Value;
use warpconv::problem::{Activation, Builder, Subsample};

use super::layers::{self, Op};

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
    let window = layers::pair(params, "kernel")?;
    let given = |name: &str| params.get(name).filter(|value| !value.is_null());
    let stride = match given("stride") {
        None => window,
        Some(_) => layers::pair(params, "stride")?,
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
        Some(_) => layers::real(params, name),
    };
    Ok([scale("amplitude")?, scale("slope")?])
}

impl Subsampling {
    /// The problem of the subsampling but for its input.
    pub fn builder(&self) -> Builder<Subsample> {
        Subsample::builder()
            .kernel(self.window[0], self.window[1])
            .stride(self.stride[0], self.stride[1])
            .mean(self.mean)
            .activation(self.activation)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn layers_of_lenet_are_read() {
        let read = |op: &str, params: Value| layers::operation(op, &params);
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
