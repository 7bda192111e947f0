"""A TFLite delegate in C, compiled in a second: it works, and it fails where it is told to.

TensorFlow's wheels bring no headers, so the part of the C interface that is used is declared here. It takes the RESHAPE
operators of a model and copies. Options: `fail=create`, `prepare`, `invoke` or `hang`, which never comes back;
`after=N`, with the last two, lets N runs of a part pass; `say=TEXT` is reported.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = r"""
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { int size; int data[]; } IntArray;
typedef struct Tensor {
  int type; void* data; IntArray* dims; float scale; int32_t zero_point; int allocation; size_t bytes;
  const void* mapped; const char* name; void* delegate; int handle; _Bool stale, variable;
  struct { int type; void* params; } quantization; void* sparsity; const IntArray* signature;
} Tensor;
typedef struct { IntArray *inputs, *outputs, *inner, *scratch; void* data; } Node;  /* its first fields */
typedef struct Context Context;
typedef struct Delegate Delegate;
typedef struct { Delegate* delegate; IntArray* nodes; } Params;  /* its first fields */
typedef struct {
  void* (*init)(Context*, const char*, size_t);
  void (*release)(Context*, void*);
  int (*prepare)(Context*, Node*);
  int (*invoke)(Context*, Node*);
  const char* (*profile)(const Context*, const Node*, int);
  int32_t builtin; const char* custom; int version; void* external; void* async; uint64_t inplace;
} Registration;
struct Context {
  size_t count;
  int (*plan)(Context*, IntArray**);
  Tensor* tensors;
  void* impl;
  int (*resize)(Context*, Tensor*, IntArray*);
  void (*report)(Context*, const char*, ...);
  int (*add)(Context*, int, int*);
  int (*node)(Context*, int, Node**, Registration**);
  int (*replace)(Context*, Registration, const IntArray*, Delegate*);
};
struct Delegate {
  void* data; int (*prepare)(Context*, Delegate*); void* from; void* to; void* release; int64_t flags; void* opaque;
};

static int fail_prepare, fail_invoke, hang, runs_left;

/* The kernel's data: how many operators it stands for, and the tensors that each reads and writes. */
static void* init(Context* context, const char* buffer, size_t length) {
  const IntArray* nodes = ((const Params*)buffer)->nodes;
  int* pairs = calloc(1 + 2 * nodes->size, sizeof(int));
  pairs[0] = nodes->size;
  for (int i = 0; i < nodes->size; i++) {
    Node* node; Registration* registration;
    context->node(context, nodes->data[i], &node, &registration);
    pairs[1 + 2 * i] = node->inputs->data[0];
    pairs[2 + 2 * i] = node->outputs->data[0];
  }
  return pairs;
}

static void release(Context* context, void* pairs) { free(pairs); }
static int prepare_node(Context* context, Node* node) { return 0; }

static int invoke(Context* context, Node* node) {
  if (hang && runs_left-- <= 0) for (;;) pause();
  if (fail_invoke && runs_left-- <= 0) { context->report(context, "the device is gone\n"); return 1; }
  const int* pairs = node->data;
  for (int i = 0; i < pairs[0]; i++) {
    Tensor* out = &context->tensors[pairs[2 + 2 * i]];
    memcpy(out->data, context->tensors[pairs[1 + 2 * i]].data, out->bytes);
  }
  return 0;
}

static int prepare(Context* context, Delegate* delegate) {
  if (fail_prepare) { context->report(context, "the model does not fit the device\n"); return 1; }
  IntArray* plan;
  if (context->plan(context, &plan)) return 1;
  IntArray* mine = calloc(1, sizeof(IntArray) + plan->size * sizeof(int));
  for (int i = 0; i < plan->size; i++) {
    Node* node; Registration* registration;
    context->node(context, plan->data[i], &node, &registration);
    if (registration->builtin == 22) mine->data[mine->size++] = plan->data[i];  /* RESHAPE */
  }
  Registration kernel = {init, release, prepare_node, invoke, NULL, 51, "test-delegate", 1, NULL, NULL, 0};
  int status = context->replace(context, kernel, mine, delegate);
  free(mine);
  return status;
}

Delegate* tflite_plugin_create_delegate(char** keys, char** values, size_t n, void (*report)(const char*)) {
  const char *fail = "", *say = "";
  fail_prepare = fail_invoke = runs_left = 0;
  for (size_t i = 0; i < n; i++) {
    if (!strcmp(keys[i], "fail")) fail = values[i];
    if (!strcmp(keys[i], "after")) runs_left = atoi(values[i]);
    if (!strcmp(keys[i], "say")) say = values[i];
  }
  if (!strcmp(fail, "create")) { if (report && *say) report(say); return NULL; }
  fail_prepare = !strcmp(fail, "prepare");
  fail_invoke = !strcmp(fail, "invoke");
  hang = !strcmp(fail, "hang");
  Delegate* delegate = calloc(1, sizeof(Delegate));
  delegate->prepare = prepare;
  return delegate;
}

void tflite_plugin_destroy_delegate(Delegate* delegate) { free(delegate); }
"""


def build_delegate(folder: Path) -> Path:
    """Compile it; skips the test where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build the test delegate with")
    source, library = folder / "delegate.c", folder / "libd.so"
    source.write_text(SOURCE)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return library
