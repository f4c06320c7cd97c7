"""Prints the rates of PyTorch's matrix product, as JSON lines in the form of `benches/ceilings`."""

import json

import torch

if not torch.cuda.is_available():
    raise SystemExit("PyTorch finds no CUDA device")
n = 8192
torch.backends.cuda.matmul.allow_tf32 = False
for name, dtype in (("bf16", torch.bfloat16), ("f32", torch.float32)):
    a, b = (torch.randn(n, n, device="cuda", dtype=dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    times = []
    for _ in range(10):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        a @ b
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1e-3)
    times.sort()
    rate = 2 * n**3 / times[len(times) // 2]
    note = f"{n} x {n} x {n}, median of {len(times)}, PyTorch {torch.__version__}"
    line = {"kind": "ceiling", "format": 1, "name": f"torch matmul {name}", "value": rate}
    print(json.dumps(line | {"unit": "FLOP/s", "note": note}), flush=True)
