"""REST v2: the catalogue of GPUs, CPUs, data centers and templates, with what is to be had where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from sandbox.runpod import catalogue, query
from sandbox.runpod.problems import bad_request, not_found
from sandbox.runpod.routes import route

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route

_IN_STOCK, _NONE = "HIGH", "NONE"
_COMPLIANCE = ["ISO_IEC_27001", "SOC_2_TYPE_2"]


class CatalogApi:
    """The same for everybody: nothing in it is the account's."""

    def routes(self) -> list[Route]:
        """Return the routes below `/v2`."""
        return [
            route("/catalog/gpus", GET=self.list_gpus),
            route("/catalog/gpus/{id}", GET=self.read_gpu),
            route("/catalog/cpus", GET=self.list_cpus),
            route("/catalog/cpus/{id}", GET=self.read_cpu),
            route("/catalog/datacenters", GET=self.list_data_centers),
            route("/catalog/datacenters/{id}", GET=self.read_data_center),
            route("/catalog/templates", GET=self.list_templates),
        ]

    async def list_gpus(self, request: Request) -> Response:
        """GET /catalog/gpus; with countries, only what stands in one of them."""
        asked = _gpu_query(request)
        gpus = [_gpu(gpu, asked) for gpu in catalogue.GPU_TYPES]
        return JSONResponse({"gpus": [gpu for gpu in gpus if not asked.countryCodes or "dataCenters" in gpu]})

    async def read_gpu(self, request: Request) -> Response:
        """GET /catalog/gpus/{id}."""
        gpu = catalogue.gpu_type(request.path_params["id"])
        if gpu is None:
            raise not_found(f"GPU type {request.path_params['id']!r}")
        return JSONResponse(_gpu(gpu, _gpu_query(request)))

    async def list_cpus(self, request: Request) -> Response:
        """GET /catalog/cpus."""
        asked = _cpu_query(request)
        return JSONResponse({"cpus": [_cpu(flavor, asked) for flavor in catalogue.CPU_FLAVORS]})

    async def read_cpu(self, request: Request) -> Response:
        """GET /catalog/cpus/{id}."""
        flavor = catalogue.cpu_flavor(request.path_params["id"])
        if flavor is None:
            raise not_found(f"CPU type {request.path_params['id']!r}")
        return JSONResponse(_cpu(flavor, _cpu_query(request)))

    async def list_data_centers(self, request: Request) -> Response:
        """GET /catalog/datacenters: those that every filter lets through."""
        asked = query.parse(query.DataCenterQuery, request)
        centers = [_data_center(center, asked) for center in catalogue.DATA_CENTERS]
        return JSONResponse(
            {
                "dataCenters": [
                    center
                    for center in centers
                    if (not asked.regions or center["region"] in asked.regions)
                    and set(asked.networkVolumeTypes) <= set(center["networkVolumeTypes"])
                    and set(asked.compliance) <= set(center["compliance"])
                    and asked.globalNetwork in (None, center["globalNetwork"])
                ]
            }
        )

    async def read_data_center(self, request: Request) -> Response:
        """GET /catalog/datacenters/{id}."""
        center = catalogue.data_center(request.path_params["id"])
        if center is None:
            raise not_found(f"data center {request.path_params['id']!r}")
        return JSONResponse(_data_center(center, query.parse(query.DataCenterQuery, request)))

    async def list_templates(self, request: Request) -> Response:
        """GET /catalog/templates: the sandbox has none."""
        query.parse(query.TemplateQuery, request)
        return JSONResponse({"templates": []})


def _gpu_query(request: Request) -> query.GpuQuery:
    asked = query.parse(query.GpuQuery, request)
    _require_include(asked, "product", "count", "cloud", "countryCodes", "cudaVersions", "minCudaVersion")
    if asked.cudaVersions and asked.minCudaVersion:
        raise bad_request("cudaVersions and minCudaVersion are mutually exclusive")
    return asked


def _cpu_query(request: Request) -> query.CpuQuery:
    asked = query.parse(query.CpuQuery, request)
    _require_include(asked, "product", "vcpuCount")
    if asked.vcpuCount & (asked.vcpuCount - 1):
        raise bad_request(f"vcpuCount {asked.vcpuCount} is not a power of two")
    return asked


def _require_include(asked: query.GpuQuery | query.CpuQuery, *names: str) -> None:
    """Check that a product is said where availability is asked for, and nothing else where it is not.

    Raises:
        Problem: it is otherwise.
    """
    if asked.include and not asked.product:
        raise bad_request("include=AVAILABILITY requires product")
    sent = asked.sent()
    for name in names:
        if not asked.include and sent.get(name):
            raise bad_request(f"{name} is valid only with include=AVAILABILITY")


def _gpu(gpu: catalogue.GpuType, asked: query.GpuQuery) -> dict[str, Any]:
    hourly = round(gpu.usd_per_second * 3600, 3)
    document: dict[str, Any] = {
        "id": gpu.id,
        "name": gpu.name,
        "pool": gpu.pool,
        "manufacturer": "NVIDIA",
        "memory": gpu.memory_gib,
        "secure": True,
        "community": False,
        "price": {"secure": hourly, "community": 0.0, "serverless": hourly},
        "maxCount": {"secure": catalogue.MOST_GPUS, "community": 0},
    }
    if not asked.include:
        return document
    versions = [
        version
        for version in gpu.cuda_versions
        if (not asked.cudaVersions or version in asked.cudaVersions)
        and (not asked.minCudaVersion or catalogue.is_at_least(version, asked.minCudaVersion))
    ]
    there = versions and asked.count <= catalogue.MOST_GPUS and asked.cloud == "SECURE"
    centers = [
        center
        for center in catalogue.DATA_CENTERS
        if there
        and gpu.pool in center.pools
        and (not asked.countryCodes or center.country in asked.countryCodes)
    ]
    cuda = [{"version": version, "available": bool(centers)} for version in versions]
    return {**document, **_availability(centers), **({"cudaVersions": cuda} if cuda else {})}


def _cpu(flavor: catalogue.CpuFlavor, asked: query.CpuQuery) -> dict[str, Any]:
    document: dict[str, Any] = {
        "id": flavor.id,
        "name": flavor.name,
        "group": flavor.group,
        "vcpu": {"min": 2, "max": catalogue.MOST_VCPUS},
        "ramGbPerVcpu": float(flavor.memory_gib_per_vcpu),
        "price": {
            "securePerVcpu": catalogue.USD_PER_VCPU_HOUR,
            "serverlessPerVcpu": catalogue.USD_PER_VCPU_HOUR,
        },
    }
    if not asked.include:
        return document
    there = asked.vcpuCount <= catalogue.MOST_VCPUS
    return {
        **document,
        **_availability([center for center in catalogue.DATA_CENTERS if there and center.has_cpus]),
    }


def _availability(centers: list[catalogue.DataCenter]) -> dict[str, Any]:
    if not centers:
        return {"availability": _NONE}
    return {
        "availability": _IN_STOCK,
        "dataCenters": [
            {"id": center.id, "name": center.name, "availability": _IN_STOCK} for center in centers
        ],
    }


def _data_center(center: catalogue.DataCenter, asked: query.DataCenterQuery) -> dict[str, Any]:
    document: dict[str, Any] = {
        "id": center.id,
        "name": center.name,
        "region": center.region,
        "globalNetwork": True,
        "networkVolumeTypes": list(center.volume_types),
        "compliance": _COMPLIANCE,
    }
    if "GPU_AVAILABILITY" in asked.include:
        document["gpuAvailability"] = [
            {"id": gpu.id, "name": gpu.name, "availability": _IN_STOCK}
            for gpu in catalogue.GPU_TYPES
            if gpu.pool in center.pools
        ]
    if "CPU_AVAILABILITY" in asked.include and center.has_cpus:
        document["cpuAvailability"] = [
            {"id": flavor.id, "name": flavor.name, "availability": _IN_STOCK}
            for flavor in catalogue.CPU_FLAVORS
        ]
    return document
