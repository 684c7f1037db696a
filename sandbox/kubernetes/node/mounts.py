"""Leads a program to its volumes without a mount: by links below its folder, and by the paths it is given.

A container here sees this machine's files, so nothing can be mounted at its `mountPath`. Instead
`<container>/mounts/<mountPath>` links to the volume, `BERTH_MOUNTS` names that folder, and an argument or a
variable that is such a path (alone, or after the "=" of an option) is rewritten to where the files are. A
path that is written into the image's own program is not reached.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from sandbox.kubernetes.node.api import Object


class Mounts:
    """Where a container's paths really are.

    Args:
        places: the real path of each path that the container's spec names.
    """

    def __init__(self, places: Mapping[str, Path]) -> None:
        # The longest first: a mount inside another one's path wins.
        self._places = sorted(places.items(), key=lambda item: -len(item[0]))

    @classmethod
    def link(
        cls, container: Object, volumes: Mapping[str, Path], directory: Path, message_file: Path
    ) -> Mounts:
        """Make the links of one container.

        Args:
            container: its spec.
            volumes: the pod's volumes by name.
            directory: where the links go.
            message_file: where its `terminationMessagePath` is.
        """
        places = {container.get("terminationMessagePath", "/dev/termination-log"): message_file}
        for mount in container.get("volumeMounts") or ():
            source = volumes[mount["name"]] / (mount.get("subPath") or "")
            if not source.exists():
                source.mkdir(parents=True)
            path = mount["mountPath"].rstrip("/") or "/"
            places[path] = source
            link = directory / path.lstrip("/")
            if not link.is_symlink() and not link.exists():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(source)
        return cls(places)

    def path(self, text: str) -> str:
        """Return the real path of a container's path, or the text as it is."""
        for place, real in self._places:
            if text == place or text.startswith(f"{place}/"):
                return str(real) + text[len(place) :]
        return text

    def arguments(self, texts: Sequence[str] | None) -> list[str] | None:
        """Rewrite the paths in a command line."""
        return None if texts is None else [self._argument(text) for text in texts]

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Rewrite the paths in an environment."""
        return {name: self.path(value) for name, value in variables.items()}

    def _argument(self, text: str) -> str:
        option, equals, value = text.partition("=")
        if equals and option.startswith("-"):
            return f"{option}={self.path(value)}"
        return self.path(text)
