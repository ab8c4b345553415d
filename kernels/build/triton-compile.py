"""Compiles one Triton kernel ahead of time, without torch and without a GPU: a job (JSON) on standard input.

job: {sources: folders to import from, packages: names whose __init__ is not run, module, function, target: 90,
params: [{name, type} | {name, constexpr}], aligned: names, warps, stages, out: path of the cubin}
Prints what a launch needs, as JSON on one line.
"""
import importlib
import importlib.machinery
import json
import os
import sys
import types


class StubType(type):
    """A class of which every attribute is another such class; never true."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        made = StubType(name, (Stub,), {})
        setattr(cls, name, made)
        return made

    def __bool__(cls):
        return False


class Stub(metaclass=StubType):
    def __new__(cls, *args, **kwargs):
        return object.__new__(cls)

    def __init__(self, *args, **kwargs):
        pass

    def __bool__(self):
        return False

    def __call__(self, *args, **kwargs):
        return self

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(type(self), name)


class StubModule(types.ModuleType):
    __version__ = "0"

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        made = StubType(name, (Stub,), {"__module__": self.__name__})
        setattr(self, name, made)
        return made


class StubFinder:
    """torch, which only host code uses, is not here."""

    def find_spec(self, name, path=None, target=None):
        if name == "torch" or name.startswith("torch."):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return StubModule(spec.name)

    def exec_module(self, module):
        pass


def main():
    job = json.load(sys.stdin)
    sys.path[:0] = job["sources"]
    sys.meta_path.insert(0, StubFinder())
    for package in job["packages"]:
        module = types.ModuleType(package)
        relative = package.replace(".", "/")
        module.__path__ = [os.path.join(folder, relative) for folder in job["sources"]]
        sys.modules[package] = module
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = getattr(importlib.import_module(job["module"]), job["function"])
    names = [p["name"] for p in job["params"]]
    if names != list(kernel.arg_names):
        raise SystemExit("parameters differ: the kernel has " + ", ".join(kernel.arg_names))
    signature = {p["name"]: p.get("type", "constexpr") for p in job["params"]}
    constexprs = {(i,): p["constexpr"] for i, p in enumerate(job["params"]) if "constexpr" in p}
    attrs = {(names.index(name),): [["tt.divisibility", 16]] for name in job["aligned"]}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constexprs, attrs=attrs)
    options = {"num_warps": job["warps"], "num_stages": job["stages"]}
    made = triton.compile(source, target=GPUTarget("cuda", job["target"], 32), options=options)
    with open(job["out"], "wb") as file:
        file.write(made.asm["cubin"])
    m = made.metadata
    print(json.dumps({
        "entry": m.name,
        "threads": 32 * m.num_warps,
        "shared": m.shared,
        "clusters": m.num_ctas,
        "globalScratch": m.global_scratch_size,
        "profileScratch": getattr(m, "profile_scratch_size", 0),
        "pdl": bool(m.launch_pdl),
        "cooperative": bool(m.launch_cooperative_grid),
        "triton": triton.__version__,
    }))


main()
