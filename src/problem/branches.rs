//! Several convolutions with the same output pixels, computed in one launch: the branches of an
//! Inception module.

use std::fmt;

use crate::error::Error;
use crate::problem::{Conv2d, Padding, Pool2d, PoolKind, TensorDesc};
use crate::problem::{DType, Math};

/// The most products of a launch.
pub(crate) const MAX_PRODUCTS: usize = 4;

/// The most convolutions that one product is made of.
pub(crate) const MAX_MERGED: usize = 4;

/// The most convolutions of a launch, all products together.
pub const MAX_CONVOLUTIONS: usize = 8;

/// One matrix product of a launch: convolutions over the same input with filters of the same size,
/// which together are one convolution whose filters, and channels of output, lie in several
/// buffers. The input may be pooled on the way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Product {
    convolutions: Vec<Conv2d>,
    pooling: Option<Pool2d>,
    merged: Conv2d,
}

impl Product {
    /// Puts the filters of one to four convolutions side by side.
    ///
    /// # Errors
    /// [`Error::Incompatible`] for groups and residuals; [`Error::Shape`] if there are none or too
    /// many, or if they differ in input, filter size, stride, dilation or padding;
    /// [`Error::Incompatible`] if they differ in the order or the alignment of what they read;
    /// [`Error::TooLarge`] for what no [`Conv2d`] of all their filters may have.
    pub fn new(convolutions: Vec<Conv2d>) -> Result<Product, Error> {
        let first = alike(&convolutions)?;
        let filters = convolutions.iter().map(Conv2d::k).sum();
        let merged = first
            .to_builder()
            .filters(filters)
            .output_slice(filters, 0)
            .bias(convolutions.iter().any(Conv2d::bias))
            .build()?;
        Ok(Product {
            convolutions,
            pooling: None,
            merged,
        })
    }

    /// The same behind a 3x3 max pooling of stride 1 and padding 1, whose result is not stored.
    ///
    /// # Errors
    /// As [`Product::new`]; [`Error::Incompatible`] if the pooling is another one, or a convolution
    /// behind it is not 1x1 with stride 1 and no padding; [`Error::Shape`] if it does not read what
    /// the pooling makes.
    pub fn pooled(pooling: Pool2d, convolutions: Vec<Conv2d>) -> Result<Product, Error> {
        let product = Product::new(convolutions)?;
        let conv = &product.merged;
        let window = (pooling.kind(), pooling.r(), pooling.s());
        let one = pooling.stride() == [1, 1] && pooling.dilation() == [1, 1];
        if window != (PoolKind::Max { indices: false }, 3, 3)
            || !one
            || pooling.padding() != Padding::same(1)
        {
            return Err(Error::Incompatible {
                what: "a pooling other than the maximum of 3x3, stride 1, padding 1",
                with: "a product that pools on the way",
            });
        }
        if (conv.r(), conv.s()) != (1, 1)
            || conv.stride() != [1, 1]
            || conv.padding() != Padding::NONE
        {
            return Err(Error::Incompatible {
                what: "a convolution other than 1x1, stride 1, without padding",
                with: "a product that pools on the way",
            });
        }
        let (made, read) = (pooling.output(), conv.input());
        shape("the input of a convolution behind a pooling", read, made)?;
        if (made.dtype(), made.layout()) != (read.dtype(), read.layout()) {
            return Err(Error::Incompatible {
                what: "a pooling of another type or layout",
                with: "the convolution behind it",
            });
        }
        let x = pooling.input();
        let merged = conv
            .to_builder()
            .input_slice(x.channel_pitch(), x.channel_offset())
            .build()?;
        Ok(Product {
            pooling: Some(pooling),
            merged,
            ..product
        })
    }

    /// The convolutions, in the order of their filters.
    pub fn convolutions(&self) -> &[Conv2d] {
        &self.convolutions
    }

    /// The pooling before them, if there is one.
    pub fn pooling(&self) -> Option<&Pool2d> {
        self.pooling.as_ref()
    }

    /// All convolutions as one, over what the launch reads: before the pooling, if there is one.
    /// Its output is dense, its bias that of any.
    pub(crate) fn merged(&self) -> &Conv2d {
        &self.merged
    }
}

/// The first of convolutions that can share a product.
fn alike(convolutions: &[Conv2d]) -> Result<&Conv2d, Error> {
    let Some(first) = convolutions
        .first()
        .filter(|_| convolutions.len() <= MAX_MERGED)
    else {
        return Err(Error::Shape {
            what: "the convolutions of a product",
            expected: vec![MAX_MERGED],
            got: vec![convolutions.len()],
        });
    };
    for conv in convolutions {
        if conv.groups() > 1 || conv.residual().is_some() {
            return Err(Error::Incompatible {
                what: "a convolution with groups or a residual",
                with: "others in one launch",
            });
        }
        shape(
            "the input of a merged convolution",
            conv.input(),
            first.input(),
        )?;
        let geometry = |conv: &Conv2d| {
            let sides = conv.padding();
            let mut all = vec![conv.r(), conv.s()];
            all.extend(conv.stride());
            all.extend(conv.dilation());
            all.extend([sides.top, sides.bottom, sides.left, sides.right]);
            all
        };
        if geometry(conv) != geometry(first) {
            return Err(Error::Shape {
                what: "filter size, stride, dilation and padding of a merged convolution",
                expected: geometry(first),
                got: geometry(conv),
            });
        }
        let storage = |conv: &Conv2d| {
            let order = (conv.layout(), conv.dtype(), conv.math());
            (
                order,
                conv.input().channel_pitch(),
                conv.input().channel_offset(),
            )
        };
        if storage(conv) != storage(first) || conv.alignment() != first.alignment() {
            return Err(Error::Incompatible {
                what: "a convolution that reads its input otherwise",
                with: "the others of its product",
            });
        }
    }
    Ok(first)
}

fn shape(what: &'static str, got: &TensorDesc, expected: &TensorDesc) -> Result<(), Error> {
    let extents = |desc: &TensorDesc| vec![desc.n(), desc.c(), desc.h(), desc.w()];
    if extents(got) == extents(expected) {
        return Ok(());
    }
    Err(Error::Shape {
        what,
        expected: extents(expected),
        got: extents(got),
    })
}

/// Up to four products whose outputs have the same images, rows and columns, computed
/// in one launch; see `kernels/mma/multi_conv.cu`. No convolution reads what another one writes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Branches {
    products: Vec<Product>,
    one_input: bool,
}

impl Branches {
    /// Puts products together.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are none or too many, or if the outputs differ in images, rows or
    /// columns; [`Error::Incompatible`] if they differ in type, layout or mode of products.
    pub fn new(products: Vec<Product>) -> Result<Branches, Error> {
        let Some(first) = products.first().filter(|_| products.len() <= MAX_PRODUCTS) else {
            return Err(Error::Shape {
                what: "the products of a launch",
                expected: vec![MAX_PRODUCTS],
                got: vec![products.len()],
            });
        };
        let convolutions = products
            .iter()
            .map(|product| product.convolutions.len())
            .sum();
        if convolutions > MAX_CONVOLUTIONS {
            return Err(Error::Shape {
                what: "the convolutions of a launch",
                expected: vec![MAX_CONVOLUTIONS],
                got: vec![convolutions],
            });
        }
        let pixels = |product: &Product| {
            let output = product.merged.output();
            vec![output.n(), output.h(), output.w()]
        };
        let storage = |product: &Product| {
            let conv = &product.merged;
            (conv.dtype(), conv.layout(), conv.math())
        };
        for product in &products {
            if pixels(product) != pixels(first) {
                return Err(Error::Shape {
                    what: "the output pixels of convolutions in one launch",
                    expected: pixels(first),
                    got: pixels(product),
                });
            }
            if storage(product) != storage(first) {
                return Err(Error::Incompatible {
                    what: "another type, layout or mode",
                    with: "the first product of the launch",
                });
            }
        }
        Ok(Branches {
            products,
            one_input: false,
        })
    }

    /// Puts products together that all read the same tensor.
    ///
    /// # Errors
    /// As [`Branches::new`]; [`Error::Shape`] or [`Error::Incompatible`] if their inputs differ.
    pub(crate) fn over_one_input(products: Vec<Product>) -> Result<Branches, Error> {
        let branches = Branches::new(products)?;
        let first = branches.products[0].merged.input();
        for product in &branches.products {
            let input = product.merged.input();
            shape("the input that branches share", input, first)?;
            if input != first {
                return Err(Error::Incompatible {
                    what: "a product that reads its input otherwise",
                    with: "the first product of the launch",
                });
            }
        }
        Ok(Branches {
            one_input: true,
            ..branches
        })
    }

    /// Tensors that a launch reads: one per product, or one in all.
    pub fn inputs(&self) -> impl Iterator<Item = &TensorDesc> {
        let count = if self.one_input {
            1
        } else {
            self.products.len()
        };
        self.products[..count]
            .iter()
            .map(|product| product.merged.input())
    }

    /// The products, in order.
    pub fn products(&self) -> &[Product] {
        &self.products
    }

    /// The convolutions of all products, in order: each has filters, bias and output of its own.
    pub fn convolutions(&self) -> impl Iterator<Item = &Conv2d> {
        self.products
            .iter()
            .flat_map(|product| &product.convolutions)
    }

    /// Storage type of all tensors.
    pub(crate) fn dtype(&self) -> DType {
        self.products[0].merged.dtype()
    }

    /// Mode of f32 multiplication.
    pub(crate) fn math(&self) -> Math {
        self.products[0].merged.math()
    }

    /// Returns whether there is nothing to compute.
    pub(crate) fn is_empty(&self) -> bool {
        self.products[0].merged.output().is_empty()
    }

    /// The same for another number of images.
    ///
    /// # Errors
    /// As for its convolutions.
    pub(crate) fn with_batch(&self, n: usize) -> Result<Branches, Error> {
        let each = self.products.iter().map(|product| {
            let convolutions = product.convolutions.iter().map(|conv| conv.with_batch(n));
            let convolutions = convolutions.collect::<Result<_, _>>()?;
            match &product.pooling {
                Some(pooling) => Product::pooled(pooling.with_batch(n)?, convolutions),
                None => Product::new(convolutions),
            }
        });
        let products = each.collect::<Result<_, _>>()?;
        match self.one_input {
            true => Branches::over_one_input(products),
            false => Branches::new(products),
        }
    }

    /// Multiply-adds.
    pub(crate) fn macs(&self) -> u64 {
        let each = self.products.iter().map(|product| product.merged.macs());
        each.fold(0, u64::saturating_add)
    }

    /// Bytes at least moved: each operand once.
    pub(crate) fn min_bytes(&self) -> u64 {
        let bytes = |desc: &TensorDesc| desc.elements() as u64 * desc.dtype().size() as u64;
        let all = self
            .products
            .iter()
            .map(|product| product.merged.min_bytes());
        let again: u64 = match self.one_input {
            true => self.products[1..]
                .iter()
                .map(|product| bytes(product.merged.input()))
                .sum(),
            false => 0,
        };
        all.fold(0, u64::saturating_add) - again
    }
}

impl fmt::Display for Branches {
    /// The convolutions in benchdnn's notation: `&` joins those of a product, `|` separates
    /// products, `max3x3` stands before a pooled one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, product) in self.products.iter().enumerate() {
            if index > 0 {
                f.write_str(" | ")?;
            }
            if product.pooling.is_some() {
                f.write_str("max3x3 ")?;
            }
            for (index, conv) in product.convolutions.iter().enumerate() {
                if index > 0 {
                    f.write_str(" & ")?;
                }
                write!(f, "{conv}")?;
            }
        }
        Ok(())
    }
}
