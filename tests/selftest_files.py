"""Self-tests in tiny models, written without TensorFlow; and a delegate that disturbs what it computes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from fixtures import Tiny, paint

from edge.frame import Image
from edge.loader import load_model
from edge.selftest import preprocessed, replay
from edge.spec import SelfTestSpec, TensorTest
from edge.spec.seal import sealed
from edge.spec.vectors import SelfTest, Stored, pack
from edge.tensor import TensorInfo

CONF = 0.25


def pictures() -> list[Image]:
    """Return two pictures with three boxes; neither has the shape of the tiny models' input."""
    return [
        paint([("red", 0, 0), ("blue", 2, 1)], (128, 128)),
        paint([("green", c, r) for c in range(6) for r in range(3)], (192, 96)),
    ]


def with_selftest(tiny: Tiny, path: Path) -> Path:
    """Save a model with its description and a self-test whose limits are a hundredth of each range."""
    tiny.save(path)
    model = load_model(path, threads=1)
    made = replay(model, pictures(), CONF)
    image = _stored(model.backend.input, [preprocessed(model, picture) for picture in pictures()])
    heads = tuple(_stored(info, [each.outputs[name] for each in made]) for name, info in model.outputs.items())
    boxes = tuple(each.boxes for each in made)
    spec = SelfTestSpec(
        pictures=len(made),
        conf=CONF,
        boxes=tuple(map(len, boxes)),
        float_boxes=tuple(map(len, boxes)),
        min_agreement=0.8,
        input=image.test,
        heads=tuple(head.test for head in heads),
        half_max_error=0.05,
        half_mean_error=0.02,
    )
    members = pack(SelfTest(spec, tuple(pictures()), image, heads, boxes, boxes))
    path.write_bytes(sealed(tiny.model, tiny.spec.model_copy(update={"selftest": spec}), members))
    return path


def _stored(info: TensorInfo, values: list[npt.NDArray[np.float32]]) -> Stored:
    expected = np.stack(values)
    index = np.arange(0, expected.shape[1], max(1, expected.shape[1] // 1000))
    low, high = float(expected.min()), float(expected.max())
    limit = 0.01 * (high - low) + info.scale
    test = TensorTest(
        name=info.name,
        size=expected.shape[1],
        samples=len(index),
        low=low,
        high=high,
        max_error=limit,
        mean_error=limit / 4,
    )
    return Stored(test, index, expected[:, index], expected[:, index])


# The C interface of TensorFlow Lite, as far as a delegate needs it that takes the reshapes of a float graph: it copies
# their values and adds `noise` to every second one.
_SOURCE = """
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
typedef struct { int size; int data[]; } IntArray;
typedef struct Tensor {
  int type; float* data; IntArray* dims; struct { float scale; int32_t zero; } params; int allocation; size_t bytes;
  const void* mmap; const char* name; void* delegate; int handle; bool stale, variable;
  struct { int type; void* params; } quantization; void* sparsity; IntArray* signature;
} Tensor;
typedef struct {
  IntArray *inputs, *outputs, *intermediates, *temporaries; void *user, *builtin; const void* custom; int custom_size;
  void* delegate; bool side_effect;
} Node;
typedef struct Context Context;
typedef struct {
  void* (*init)(Context*, const char*, size_t); void (*free)(Context*, void*); int (*prepare)(Context*, Node*);
  int (*invoke)(Context*, Node*); const char* (*profile)(const Context*, const Node*); int32_t builtin;
  const char* name; int version; void *external, *async; uint64_t inplace;
} Registration;
struct Context {
  size_t tensors_size; int (*plan)(Context*, IntArray**); Tensor* tensors; void* impl;
  int (*resize)(Context*, Tensor*, IntArray*); void (*report)(Context*, const char*, ...);
  int (*add)(Context*, int, int*); int (*node)(Context*, int, Node**, Registration**);
  int (*replace)(Context*, Registration, const IntArray*, void*);
};
typedef struct { void* data; int (*prepare)(Context*, void*); void *a, *b, *c; int64_t flags; void* builder; } Delegate;
static float noise;
static int ready(Context* c, Node* n) { return 0; }
static int run(Context* c, Node* n) {
  Tensor *in = &c->tensors[n->inputs->data[0]], *out = &c->tensors[n->outputs->data[0]];
  for (size_t i = 0; i < out->bytes / 4; i++) out->data[i] = in->data[i] + (i % 2 ? noise : 0);
  return 0;
}
static int prepare(Context* c, void* delegate) {
  IntArray* plan; Node* node; Registration* kind;
  Registration mine = {0, 0, ready, run, 0, 0, "noise", 1, 0, 0, 0};
  if (c->plan(c, &plan)) return 1;
  IntArray* taken = malloc(sizeof(int) * (plan->size + 1));
  taken->size = 0;
  for (int i = 0; i < plan->size; i++)
    if (!c->node(c, plan->data[i], &node, &kind) && kind->builtin == 22) {
      taken->size = 1;
      taken->data[0] = plan->data[i];
    }
  int status = taken->size ? c->replace(c, mine, taken, delegate) : 0;
  free(taken);
  return status;
}
void* tflite_plugin_create_delegate(char** keys, char** values, size_t n, void (*report)(const char*)) {
  Delegate* made = calloc(1, sizeof(Delegate) + 512);
  for (size_t i = 0; i < n; i++) if (!strcmp(keys[i], "noise")) noise = atof(values[i]);
  made->prepare = prepare;
  return made;
}
void tflite_plugin_destroy_delegate(void* delegate) { free(delegate); }
"""


def noisy_delegate(folder: Path) -> Path:
    """Compile the delegate; skips the test where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build the test delegate with")
    (folder / "noise.c").write_text(_SOURCE)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "libnoise.so", folder / "noise.c"], check=True)
    return folder / "libnoise.so"
