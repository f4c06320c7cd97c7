//! The setters that builders share, each group for the fields of the same names.

/// Setters of a builder with a field `window`.
macro_rules! window_setters {
    () => {
        /// Rows and columns of the window's taps.
        pub fn kernel(mut self, r: usize, s: usize) -> Self {
            self.window.kernel = [r, s];
            self
        }

        /// Rows and columns between two windows.
        pub fn stride(mut self, h: usize, w: usize) -> Self {
            self.window.stride = [h, w];
            self
        }

        /// Rows and columns between two taps; 1 is dense.
        pub fn dilation(mut self, h: usize, w: usize) -> Self {
            self.window.dilation = [h, w];
            self
        }

        /// Rows and columns around the image.
        pub fn padding(mut self, padding: Padding) -> Self {
            self.window.padding = padding;
            self
        }

        /// Kernel, stride, dilation and padding at once.
        pub fn window(mut self, window: Window) -> Self {
            self.window = window;
            self
        }
    };
}

/// Setters of a builder with fields `input`, `dtype`, `layout`, `input_slice` and `output_slice`.
macro_rules! tensor_setters {
    () => {
        /// Images, channels, rows and columns of the input.
        pub fn input(mut self, n: usize, c: usize, h: usize, w: usize) -> Self {
            self.input = [n, c, h, w];
            self
        }

        /// The type of all tensors' elements.
        pub fn dtype(mut self, dtype: DType) -> Self {
            self.dtype = dtype;
            self
        }

        /// The layout of the activations.
        pub fn layout(mut self, layout: Layout) -> Self {
            self.layout = layout;
            self
        }

        /// The input is channels `offset..offset + c` of a tensor of `pitch` channels.
        pub fn input_slice(mut self, pitch: usize, offset: usize) -> Self {
            self.input_slice = Some((pitch, offset));
            self
        }

        /// The output is a run of channels, from `offset` on, of a tensor of `pitch` channels.
        pub fn output_slice(mut self, pitch: usize, offset: usize) -> Self {
            self.output_slice = Some((pitch, offset));
            self
        }
    };
}

/// Setters of a builder with fields `filters`, `filter_layout`, `math`, `alignment` and `relu`.
macro_rules! filter_setters {
    () => {
        /// Filters, which are the channels of the output.
        pub fn filters(mut self, k: usize) -> Self {
            self.filters = k;
            self
        }

        /// The layout of the filters.
        pub fn filter_layout(mut self, layout: FilterLayout) -> Self {
            self.filter_layout = layout;
            self
        }

        /// The exactness of products of f32 numbers; other types have [`Math::Strict`] only.
        pub fn math(mut self, math: Math) -> Self {
            self.math = math;
            self
        }

        /// The number of bytes that the address of every buffer's first element is a multiple of: a
        /// power of two, at least an element's size and at most 256. Kernels that copy 16 bytes at
        /// a time need 16, which is the default.
        pub fn alignment(mut self, bytes: usize) -> Self {
            self.alignment = bytes;
            self
        }

        /// Applies ReLU to the result, after bias and residual.
        pub fn relu(mut self, relu: bool) -> Self {
            self.relu = relu;
            self
        }
    };
}

pub(super) use {filter_setters, tensor_setters, window_setters};
