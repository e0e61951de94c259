"""How the tests compile: without XLA's optimisations, but for what `optimised` compiles as users do."""

import jax

# Most programs of the tests run once, and are compiled in a third of the time without optimisations.
QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_parallel_codegen_split_count": 1}
_USERS = {"xla_backend_optimization_level": 3, "xla_cpu_parallel_codegen_split_count": 32}
if jax.__version_info__ < (0, 11):
    QUICK["xla_cpu_use_fusion_emitters"], _USERS["xla_cpu_use_fusion_emitters"] = False, True

FLAGS = " ".join(f"--{name}={str(value).lower()}" for name, value in QUICK.items())


def optimised(function, **options):
    """`jax.jit` with the optimisations that users have: for gradients of maxima, memory, and whatever runs long."""
    return jax.jit(function, compiler_options=_USERS, **options)
