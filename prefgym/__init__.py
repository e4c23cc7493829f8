"""prefgym: teach robots and language models from human comparisons.

Importing the package registers its environments with Gymnasium by string and nothing else: no torch, no MuJoCo.
"""

from importlib.metadata import version

from gymnasium import register

__version__ = version("prefgym")

register(
    id="prefgym/Backflip-v0",
    entry_point="prefgym.envs.backflip:BackflipEnv",
    vector_entry_point="prefgym.envs.backflip:BackflipVectorEnv",
)
register(
    id="prefgym/Hop-v0",
    entry_point="prefgym.envs.hop:HopEnv",
    vector_entry_point="prefgym.envs.hop:HopVectorEnv",
)
register(
    id="prefgym/CheetahRun-v0",
    entry_point="prefgym.envs.cheetah:CheetahRunEnv",
    vector_entry_point="prefgym.envs.cheetah:CheetahRunVectorEnv",
)
register(
    id="prefgym/CheetahStand-v0",
    entry_point="prefgym.envs.cheetah:CheetahStandEnv",
    vector_entry_point="prefgym.envs.cheetah:CheetahStandVectorEnv",
)
register(
    id="prefgym/WalkerWalk-v0",
    entry_point="prefgym.envs.walker:WalkerWalkEnv",
    vector_entry_point="prefgym.envs.walker:WalkerWalkVectorEnv",
)
register(
    id="prefgym/TextGeneration-v0",
    entry_point="prefgym.envs.text_single:TextGenerationEnv",
    vector_entry_point="prefgym.envs.text:TextGenerationVectorEnv",
)
