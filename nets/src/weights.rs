//! The weights of a network: random by seed, or read by name.

use super::network::{Network, Parameter};
use warpconv::error::Error;
use warpconv_testing::Operands;

/// A named tensor of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// Extents of the tensor.
    pub shape: Vec<usize>,
    /// Its elements, the last extent running fastest.
    pub values: Vec<f64>,
}

/// The `i`-th number of the generator `seed`: in [-1, 1), a multiple of 2^-23, by splitmix64 of
/// `seed * 2^32 + i`. The numbers are the same on every machine and in any order, and exact in f32.
pub fn value(seed: u64, i: u64) -> f64 {
    let mut z = (seed << 32)
        .wrapping_add(i)
        .wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    ((z >> 40) as f64 - 8_388_608.0) / 8_388_608.0
}

/// The first `len` numbers of a generator, times `scale`, each rounded to f32.
fn values(seed: u64, len: usize, scale: f64) -> Vec<f64> {
    let scaled = (0..len as u64).map(|i| value(seed, i) * scale);
    scaled.map(|value| f64::from(value as f32)).collect()
}

impl Network {
    /// Random weights by seed. Filters are uniform in `±sqrt(6 / m)`, where `m` products make a
    /// sum, so that activations keep their magnitude behind a ReLU (He et al., Delving Deep into
    /// Rectifiers, 2015); biases are uniform in ±0.1. The first filters are those of the generator
    /// `seed`, the first bias that of `seed + 1`, and so on, in the order of the description:
    /// fusing launches changes no number.
    pub fn random(&self, seed: u64) -> Vec<Operands> {
        let operands = self.parameters().iter().map(|parameter| {
            let conv = &parameter.conv;
            let seed = seed.wrapping_add(2 * parameter.index);
            let scale = f64::from((6.0 / conv.filter().gemm_k() as f64).sqrt() as f32);
            let bias = f64::from(0.1f32);
            let mut w = values(seed, conv.filter().elements(), scale);
            parameter.mask(&mut w);
            Operands {
                w,
                bias: conv
                    .bias()
                    .then(|| values(seed.wrapping_add(1), conv.output().c(), bias)),
            }
        });
        operands.collect()
    }

    /// A random input by seed: numbers in ±2, dense NCHW.
    pub fn random_input(&self, seed: u64) -> Vec<f64> {
        let input = self.graph().input();
        values(seed, input.map_or(0, |input| input.elements()), 2.0)
    }

    /// Reads weights by name: `find` returns the tensor of a name, if there is one. A fully
    /// connected layer may have its filters as a matrix. A batch normalisation is folded into
    /// filters and bias (with [`Parameter::norm_epsilon`] added to its variance).
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor is missing or of another shape, and what `find` returns.
    pub fn read(
        &self,
        mut find: impl FnMut(&str) -> Result<Option<Named>, Error>,
    ) -> Result<Vec<Operands>, Error> {
        let parameters = self.parameters().iter();
        parameters
            .map(|parameter| read(parameter, &mut find))
            .collect()
    }

    /// Reads weights from a file in the safetensors format: f64, f32, f16 or bf16; names and shapes
    /// as for [`Network::read`].
    ///
    /// # Errors
    /// As [`Network::read`]; [`Error::Weights`] if the file cannot be read.
    pub fn read_safetensors(&self, path: &std::path::Path) -> Result<Vec<Operands>, Error> {
        let wrong = |reason: String| Error::Weights {
            name: path.display().to_string(),
            reason,
        };
        let bytes = warpconv::files::bytes_if(path, warpconv::files::WEIGHTS, 9, header_fits);
        let bytes = bytes.map_err(|error| wrong(error.to_string()))?;
        let file = tensors(&bytes).map_err(wrong)?;
        let read = self.read(|name| match file.tensor(name) {
            Ok(view) => Ok(Some(Named {
                shape: view.shape().to_vec(),
                values: decode(name, view.dtype(), view.data())?,
            })),
            Err(safetensors::SafeTensorError::TensorNotFound(_)) => Ok(None),
            Err(error) => Err(Error::Weights {
                name: name.to_owned(),
                reason: error.to_string(),
            }),
        });
        // Errors of a tensor do not name the file.
        read.map_err(|error| match error {
            Error::Weights { name, reason } => Error::Weights {
                name: format!("{}: {name}", path.display()),
                reason,
            },
            error => error,
        })
    }
}

/// Maximum length of a header in bytes. These networks need under 100 KB, and reading a header
/// takes 16 times its size.
const MAX_HEADER: u64 = 16 << 20;

/// Checks the first 9 bytes of a safetensors file of `size` bytes: the length of a header that fits
/// into the file, and the brace that begins it.
fn header_fits(head: &[u8], size: u64) -> std::io::Result<()> {
    let refused = |why: String| {
        let why = format!("no safetensors file: {why}; give one, or a folder of .npy arrays");
        Err(std::io::Error::new(std::io::ErrorKind::InvalidData, why))
    };
    let (Some(length), Some(first)) = (head.first_chunk(), head.get(8)) else {
        return refused(format!("{size} bytes are too few"));
    };
    let length = u64::from_le_bytes(*length);
    if length > size.saturating_sub(8) {
        return refused(format!("a header of {length} bytes in a file of {size}"));
    }
    if length > MAX_HEADER {
        return refused(format!(
            "a header of {length} bytes, the most is {MAX_HEADER}"
        ));
    }
    if *first != b'{' {
        return refused("its header is no JSON object".to_owned());
    }
    Ok(())
}

/// The tensors of a safetensors file.
fn tensors(bytes: &[u8]) -> Result<safetensors::SafeTensors<'_>, String> {
    let wrong = |why: &dyn std::fmt::Display| {
        format!("the safetensors file is damaged: {why}; write it anew")
    };
    let metadata = safetensors::SafeTensors::read_metadata(bytes);
    let (length, metadata) = metadata.map_err(|error| wrong(&error))?;
    let file = safetensors::SafeTensors::deserialize(bytes).map_err(|error| wrong(&error))?;
    // The format forbids duplicate names; its reader keeps the last of them.
    let kept = file.len() + usize::from(metadata.metadata().is_some());
    if members(&bytes[8..8 + length]) != kept {
        return Err(wrong(
            &"a name stands twice in its header, or its __metadata__ is null",
        ));
    }
    Ok(file)
}

/// Number of members of the outermost object of a JSON text, which must be valid.
fn members(json: &[u8]) -> usize {
    let (mut count, mut depth, mut quoted, mut escaped) = (0, 0usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b':' if depth == 1 => count += 1,
            _ => {}
        }
    }
    count
}

/// Decodes the numbers of a tensor in a file.
fn decode(name: &str, dtype: safetensors::Dtype, data: &[u8]) -> Result<Vec<f64>, Error> {
    use half::{bf16, f16};
    use safetensors::Dtype;

    fn all<const N: usize>(data: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        let chunks = data.as_chunks::<N>().0.iter();
        chunks.map(|&bytes| number(bytes)).collect()
    }
    match dtype {
        Dtype::F64 => Ok(all(data, f64::from_le_bytes)),
        Dtype::F32 => Ok(all(data, |b| f64::from(f32::from_le_bytes(b)))),
        Dtype::F16 => Ok(all(data, |b| f16::from_le_bytes(b).to_f64())),
        Dtype::BF16 => Ok(all(data, |b| bf16::from_le_bytes(b).to_f64())),
        other => Err(Error::Weights {
            name: name.to_owned(),
            reason: format!("stored as {other:?}; f64, f32, f16 and bf16 can be read"),
        }),
    }
}

/// Reads filters and bias of one layer.
fn read(
    parameter: &Parameter,
    find: &mut dyn FnMut(&str) -> Result<Option<Named>, Error>,
) -> Result<Operands, Error> {
    let shape = parameter.shape();
    let [filters, ..] = shape;
    let name = format!("{}.weight", parameter.name);
    let weight = find(&name)?.ok_or_else(|| missing(&name, &shape))?;
    let matrix = [filters, shape[1..].iter().product()];
    if weight.shape != shape && weight.shape != matrix {
        return Err(Error::Weights {
            name,
            reason: format!("shape {:?}, the layer takes {shape:?}", weight.shape),
        });
    }
    let mut operands = Operands {
        w: weight.values,
        bias: None,
    };
    parameter.mask(&mut operands.w);
    let mut vector = |name: String, needed: bool| match find(&name)? {
        Some(found) if found.shape == [filters] => Ok(Some(found.values)),
        Some(found) => Err(Error::Weights {
            name,
            reason: format!("shape {:?}, the layer takes [{filters}]", found.shape),
        }),
        None if needed => Err(missing(&name, &[filters])),
        None => Ok(None),
    };
    let norm = match &parameter.norm {
        Some(norm) => vector(format!("{norm}.weight"), false)?.map(|gamma| (norm, gamma)),
        None => None,
    };
    let bias = vector(format!("{}.bias", parameter.name), norm.is_none())?;
    let mut bias = bias.unwrap_or_else(|| vec![0.0; filters]);
    if let Some((norm, gamma)) = norm {
        let mut part = |part: &str| {
            let found = vector(format!("{norm}.{part}"), true)?;
            Ok::<_, Error>(found.unwrap_or_default())
        };
        let (beta, mean, variance) = (part("bias")?, part("running_mean")?, part("running_var")?);
        let taps = operands.w.len() / filters;
        for (k, filter) in operands.w.chunks_mut(taps).enumerate() {
            let scale = gamma[k] / (variance[k] + parameter.norm_epsilon).sqrt();
            filter.iter_mut().for_each(|w| *w *= scale);
            bias[k] = (bias[k] - mean[k]) * scale + beta[k];
        }
    }
    operands.bias = parameter.conv.bias().then_some(bias);
    Ok(operands)
}

fn missing(name: &str, shape: &[usize]) -> Error {
    Error::Weights {
        name: name.to_owned(),
        reason: format!("missing, the layer takes shape {shape:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Builder, Conv, NetworkConfig};
    use std::collections::HashMap;

    #[test]
    fn the_generator_gives_its_known_numbers() {
        let first = |seed, n| (0..n).map(|i| value(seed, i)).collect::<Vec<f64>>();
        let near = |got: Vec<f64>, want: &[f64]| {
            assert!(
                // The expected values have seven decimals, the last not always rounded.
                got.iter().zip(want).all(|(g, w)| (g - w).abs() <= 1e-7),
                "{got:?}"
            );
        };
        near(first(1, 4), &[0.5326035, -0.7479380, 0.4018624, 0.2657525]);
        near(first(10, 3), &[-0.3237565, -0.7189893, -0.7835607]);
    }

    fn small(epsilon: f64) -> Network {
        let (mut net, x) = Builder::new(&NetworkConfig::new(1, 2), 1);
        net.norm_epsilon(epsilon);
        let x = net.conv_norm("conv", "bn", x, Conv::new(2, 1));
        let x = net.linear("fc", x, 1, false);
        net.finish(x).expect("a small network")
    }

    #[test]
    fn a_normalisation_is_folded_and_shapes_are_held_to() {
        // Exact in binary, and far enough from the default to tell them apart.
        const EPSILON: f64 = 0.25;
        let vector = |values: &[f64]| Named {
            shape: vec![values.len()],
            values: values.to_vec(),
        };
        let shaped = |shape: &[usize], values: &[f64]| Named {
            shape: shape.to_vec(),
            values: values.to_vec(),
        };
        let mut file = HashMap::from([
            ("conv.weight", shaped(&[2, 1, 1, 1], &[1.0, 2.0])),
            ("bn.weight", vector(&[3.0, 1.0])),
            ("bn.bias", vector(&[0.5, 0.0])),
            ("bn.running_mean", vector(&[2.0, 0.0])),
            ("bn.running_var", vector(&[4.0 - EPSILON, 1.0 - EPSILON])),
            ("fc.weight", shaped(&[1, 8], &[1.0; 8])),
            ("fc.bias", vector(&[7.0])),
        ]);
        let network = small(EPSILON);
        let read = |file: &HashMap<&str, Named>| network.read(|name| Ok(file.get(name).cloned()));
        let operands = read(&file).expect("all is there");
        // 3 / sqrt(4) = 1.5; (0 - 2) * 1.5 + 0.5 = -2.5.
        assert_eq!(operands[0].w, [1.5, 2.0]);
        assert_eq!(operands[0].bias.as_deref(), Some(&[-2.5, 0.0][..]));
        assert_eq!(operands[1].bias.as_deref(), Some(&[7.0][..]));

        file.insert("fc.weight", shaped(&[1, 9], &[1.0; 9]));
        let wrong = read(&file).expect_err("another shape").to_string();
        assert_eq!(
            wrong,
            "fc.weight: shape [1, 9], the layer takes [1, 2, 2, 2]"
        );
        file.remove("fc.weight");
        let wrong = read(&file).expect_err("missing").to_string();
        assert_eq!(
            wrong,
            "fc.weight: missing, the layer takes shape [1, 2, 2, 2]"
        );
    }

    /// Each network has its own: PyTorch's default for ResNet-50, torchvision's for GoogLeNet.
    #[test]
    fn normalisations_have_the_epsilon_of_their_network() {
        use crate::{Variant, googlenet, resnet50};
        let config = NetworkConfig::new(1, 64);
        let google = googlenet(&config, Variant::Bottlenecked).expect("a network");
        let resnet = resnet50(&config, Variant::Bottlenecked).expect("a network");
        for (network, epsilon) in [(google, 1e-3), (resnet, 1e-5)] {
            let (kind, last) = network
                .parameters()
                .split_last_chunk::<1>()
                .expect("layers");
            assert!(
                kind.iter()
                    .all(|p| p.norm.is_some() && p.norm_epsilon == epsilon)
            );
            assert!(last[0].norm.is_none());
            // Gamma is one; beta, mean and variance are zero: filters are divided by the root of
            // epsilon.
            let one = |shape: &[usize], value: f64| {
                let values = vec![value; shape.iter().product()];
                Ok(Some(Named {
                    shape: shape.to_vec(),
                    values,
                }))
            };
            let read = network.read(|name| {
                let of = |p: &&Parameter| name.strip_prefix(&format!("{}.", p.name)).is_some();
                if let Some(parameter) = network.parameters().iter().find(of) {
                    let bias = name.ends_with(".bias");
                    return match (bias, &parameter.norm) {
                        (true, Some(_)) => Ok(None),
                        (true, None) => one(&[parameter.conv.output().c()], 0.0),
                        (false, _) => one(&parameter.shape(), 1.0),
                    };
                }
                let of = |p: &&Parameter| {
                    let norm = p.norm.as_ref().map(|norm| format!("{norm}."));
                    norm.is_some_and(|norm| name.starts_with(&norm))
                };
                let parameter = network.parameters().iter().find(of).expect("a norm");
                one(
                    &[parameter.conv.output().c()],
                    f64::from(u8::from(name.ends_with(".weight"))),
                )
            });
            let read = read.expect("all is there");
            assert_eq!(read[0].w[0], 1.0 / epsilon.sqrt());
        }
    }
}
