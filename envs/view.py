"""What a planar environment looks like: pictures of its bodies, and a window that shows one of them."""

from __future__ import annotations

import copy
import logging
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from prefgym.envs.ink import pygame
from prefgym.envs.painter import Painter
from prefgym.envs.window import open_window

if TYPE_CHECKING:
    from prefgym.envs.planar import PlanarVectorEnv

logger = logging.getLogger(__name__)

TRAIL = 0.8  # seconds
RATE = 50  # pictures per second in a window, as fast as the control steps


class View:
    """Pictures of the bodies of an environment as they are now; a subclass says how they are drawn.

    Args:
        env: the environment.
        size: width and height of the pictures, pixels.
    """

    def __init__(self, env: PlanarVectorEnv, size: tuple[int, int]) -> None:
        self.env = env
        self.size = size
        self._clock: pygame.time.Clock | None = None  # of the window, once it is open
        self._shut = False

    def frame(self, number: int) -> np.ndarray:
        """The picture of body `number`, a new array uint8 [H, W, 3]."""
        raise NotImplementedError

    def restart(self, numbers: Sequence[int] | np.ndarray) -> None:
        """These bodies were put elsewhere: forget where they came from."""

    def show(self, number: int) -> None:
        """Show body `number` in a window, at 50 pictures per second; does nothing once the window was closed.

        Raises:
            RuntimeError: there is no display to open a window on.
        """
        if self._shut:
            return
        if self._clock is None:
            open_window(self.size)
            pygame.display.set_caption("prefgym")
            self._clock = pygame.time.Clock()
        self._draw_window(self.frame(number))
        self._clock.tick(RATE)
        if any(event.type == pygame.QUIT for event in pygame.event.get()):
            logger.info("The window was closed; the environment goes on without it")
            self.close()

    def _draw_window(self, picture: np.ndarray) -> None:
        surface = pygame.image.frombuffer(picture.tobytes(), self.size, "RGB")
        window = pygame.display.get_surface()
        if window is not None:
            pygame.transform.smoothscale(surface, window.get_size(), window)  # it can be resized
            pygame.display.flip()

    def close(self) -> None:
        """Close the window, if it is open."""
        self._shut = True
        if self._clock is not None:
            self._clock = None
            pygame.display.quit()


class PainterView(View):
    """Capsules painted by pygame, with a trail of each torso and what the task counts; needs no OpenGL."""

    def __init__(self, env: PlanarVectorEnv, size: tuple[int, int]) -> None:
        super().__init__(env, size)
        painter = Painter(env.kinematics, size)
        # Copies share the canvas and have a camera each.
        self._painters = [copy.copy(painter) for _ in range(env.num_envs)]
        self._trails = [deque[np.ndarray](maxlen=round(TRAIL * RATE)) for _ in range(env.num_envs)]

    def frame(self, number: int) -> np.ndarray:
        """The picture of body `number`, a new array uint8 [H, W, 3]."""
        qpos, time = self.env.pose(number)
        self._trails[number].append(self.env.kinematics.capsules(qpos)[0].mean(axis=0))
        trail = np.array(self._trails[number])
        return self._painters[number].frame(qpos, trail=trail, time=time, **self.env.caption(number))

    def restart(self, numbers: Sequence[int] | np.ndarray) -> None:
        """These bodies were put elsewhere: their trails begin anew, their cameras jump to them."""
        for number in numbers:
            self._painters[number].reset()
            self._trails[number].clear()


class MujocoView(View):
    """MuJoCo's own renderer, seen by the model's camera "track"; needs OpenGL, by the variable MUJOCO_GL.

    Raises:
        RuntimeError: there is no OpenGL; the message says what to do.
    """

    def __init__(self, env: PlanarVectorEnv, size: tuple[int, int]) -> None:
        super().__init__(env, size)
        self._data = mujoco.MjData(env.model)
        canvas = env.model.vis.global_
        canvas.offwidth, canvas.offheight = max(canvas.offwidth, size[0]), max(canvas.offheight, size[1])
        try:
            self._renderer = mujoco.Renderer(env.model, height=size[1], width=size[0])
        except Exception as error:  # what it raises depends on the platform's OpenGL
            raise RuntimeError(
                "renderer='mujoco' needs OpenGL, which does not work here: set the environment variable MUJOCO_GL to "
                f"egl, osmesa or glfw before Python starts, or use renderer='painter', which needs none ({error})"
            ) from error

    def frame(self, number: int) -> np.ndarray:
        """The picture of body `number`, a new array uint8 [H, W, 3]."""
        self._data.qpos[:] = self.env.pose(number)[0]
        mujoco.mj_forward(self.env.model, self._data)
        self._renderer.update_scene(self._data, camera="track")
        return self._renderer.render()

    def close(self) -> None:
        """Close the window, and the renderer."""
        super().close()
        self._renderer.close()


VIEWS: dict[str, type[View]] = {"painter": PainterView, "mujoco": MujocoView}


def make_view(env: PlanarVectorEnv, renderer: str = "painter", size: tuple[int, int] = (480, 360)) -> View:
    """The view of an environment by the renderer of this name, "painter" or "mujoco"."""
    return VIEWS[renderer](env, size)
