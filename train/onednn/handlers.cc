// Convolutions, the gradients of their weights, and products of matrices by oneDNN, as handlers of XLA's foreign
// function interface. Operands are all f32 or all bf16; sums are made in f32, and the result may be f32 in either case.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

#include "oneapi/dnnl/dnnl.hpp"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using dnnl::memory;

namespace {

using Buffer = ffi::AnyBuffer;
using Result = ffi::Result<ffi::AnyBuffer>;
using Numbers = ffi::Span<const int64_t>;

constexpr auto kDirect = dnnl::algorithm::convolution_direct;

dnnl::engine& Engine() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

// XLA calls handlers from several threads.
dnnl::stream& Stream() {
  static thread_local dnnl::stream stream(Engine());
  return stream;
}

memory::dims List(Numbers numbers) { return memory::dims(numbers.begin(), numbers.end()); }

// The axes of maps [B, ..., C] as oneDNN orders them: the batch, the channels, then space.
memory::dims MapAxes(const Buffer& maps) {
  const int64_t last = maps.dimensions().size() - 1;
  memory::dims axes = {0, last};
  for (int64_t axis = 1; axis < last; ++axis) axes.push_back(axis);
  return axes;
}

memory::data_type TypeOf(const Buffer& array) {
  return array.element_type() == ffi::DataType::BF16 ? memory::data_type::bf16 : memory::data_type::f32;
}

// An array that lies row by row, with its axes in the order that oneDNN has them in.
memory Described(const Buffer& array, const memory::dims& axes) {
  const auto shape = array.dimensions();
  memory::dims steps(shape.size(), 1), dims, strides;
  for (size_t axis = shape.size() - 1; axis > 0; --axis) steps[axis - 1] = steps[axis] * shape[axis];
  for (const auto axis : axes) {
    dims.push_back(shape[axis]);
    strides.push_back(steps[axis]);
  }
  return memory(memory::desc(dims, TypeOf(array), strides), Engine(), array.untyped_data());
}

// The same shape in whatever order the fastest kernel has it.
memory::desc Free(const memory& array, memory::data_type type) {
  return memory::desc(array.get_desc().get_dims(), type, memory::format_tag::any);
}

void Copy(memory from, memory to) { dnnl::reorder(from, to).execute(Stream(), from, to); }

// oneDNN throws; XLA is answered, and Python raises. Nothing may run on when the buffers go.
template <typename Work>
ffi::Error Answer(Work work) {
  try {
    work();
    Stream().wait();
  } catch (const std::exception& error) {
    return ffi::Error::Internal(std::string("oneDNN: ") + error.what());
  }
  return ffi::Error::Success();
}

// Maps [B, ..., C] and kernels, of which `axes` says where the outputs, the inputs and space stand; to maps [B, ..., K].
ffi::Error Convolution(Buffer maps, Buffer kernels, Result result, Numbers axes, Numbers strides, Numbers dilation,
                       Numbers low, Numbers high) {
  return Answer([&] {
    const auto source = Described(maps, MapAxes(maps)), target = Described(*result, MapAxes(*result));
    auto weights = Described(kernels, List(axes));
    dnnl::convolution_forward::primitive_desc chosen(
        Engine(), dnnl::prop_kind::forward_inference, kDirect, source.get_desc(),
        Free(weights, weights.get_desc().get_data_type()), target.get_desc(), List(strides), List(dilation), List(low),
        List(high));
    // oneDNN tries its kernels on batched products first; with few channels those behind them take two thirds as long.
    const auto channels = std::min(source.get_desc().get_dims()[1], target.get_desc().get_dims()[1]);
    while (channels < 16 && std::strncmp(chosen.impl_info_str(), "brg", 3) == 0 && chosen.next_impl()) {
    }
    if (chosen.weights_desc() != weights.get_desc()) {
      const memory ordered(chosen.weights_desc(), Engine());
      Copy(weights, ordered);
      weights = ordered;
    }
    dnnl::convolution_forward(chosen).execute(
        Stream(), {{DNNL_ARG_SRC, source}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DST, target}});
  });
}

// Maps [B, ..., C] and the gradients of what was made of them [B, ..., K]; to the gradients of the kernels [..., C, K].
ffi::Error WeightGradient(Buffer maps, Buffer gradients, Result result, Numbers strides, Numbers dilation, Numbers low,
                          Numbers high) {
  return Answer([&] {
    const int64_t space = maps.dimensions().size() - 2;
    memory::dims axes = {space + 1, space};
    for (int64_t axis = 0; axis < space; ++axis) axes.push_back(axis);
    const auto source = Described(maps, MapAxes(maps)), target = Described(gradients, MapAxes(gradients));
    const auto kernels = Described(*result, axes);
    // oneDNN wants to be shown the convolution whose gradient it is; that of narrow maps has narrow kernels.
    const dnnl::convolution_forward::primitive_desc forward(
        Engine(), dnnl::prop_kind::forward_training, kDirect, source.get_desc(),
        Free(kernels, source.get_desc().get_data_type()), target.get_desc(), List(strides), List(dilation), List(low),
        List(high));
    const dnnl::convolution_backward_weights::primitive_desc chosen(
        Engine(), kDirect, source.get_desc(), Free(kernels, kernels.get_desc().get_data_type()), target.get_desc(),
        List(strides), List(dilation), List(low), List(high), forward);
    const bool ordered = chosen.diff_weights_desc() == kernels.get_desc();
    const auto made = ordered ? kernels : memory(chosen.diff_weights_desc(), Engine());
    dnnl::convolution_backward_weights(chosen).execute(
        Stream(), {{DNNL_ARG_SRC, source}, {DNNL_ARG_DIFF_DST, target}, {DNNL_ARG_DIFF_WEIGHTS, made}});
    if (!ordered) Copy(made, kernels);
  });
}

// Two matrices, of which `left` and `right` give the order of the axes in which they are multiplied.
ffi::Error Product(Buffer a, Buffer b, Result result, Numbers left, Numbers right) {
  return Answer([&] {
    const auto first = Described(a, List(left)), second = Described(b, List(right)), product = Described(*result, {0, 1});
    const dnnl::matmul::primitive_desc chosen(Engine(), first.get_desc(), second.get_desc(), product.get_desc());
    dnnl::matmul(chosen).execute(Stream(),
                                 {{DNNL_ARG_SRC, first}, {DNNL_ARG_WEIGHTS, second}, {DNNL_ARG_DST, product}});
  });
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(oldmasters_convolution, Convolution,
                              ffi::Ffi::Bind()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Ret<Buffer>()
                                  .Attr<Numbers>("axes")
                                  .Attr<Numbers>("strides")
                                  .Attr<Numbers>("dilation")
                                  .Attr<Numbers>("low")
                                  .Attr<Numbers>("high"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(oldmasters_weight_gradient, WeightGradient,
                              ffi::Ffi::Bind()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Ret<Buffer>()
                                  .Attr<Numbers>("strides")
                                  .Attr<Numbers>("dilation")
                                  .Attr<Numbers>("low")
                                  .Attr<Numbers>("high"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(oldmasters_product, Product,
                              ffi::Ffi::Bind().Arg<Buffer>().Arg<Buffer>().Ret<Buffer>().Attr<Numbers>("left").Attr<
                                  Numbers>("right"));
