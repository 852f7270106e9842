"""A batch of photographs for measuring, and the flows that the face aligner is measured against."""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from apps.face_align import demo, models

IMAGES, SIDE = 1000, 250
"""As many images of as many pixels a side as the published batch had."""
NO_FACE, MANY, CORRUPT = 0.03, 0.03, 0.02
TEMPLATE = [[0.36378494, 0.17794687], [0.6189632, 0.17277813], [0.50020397, 0.7505844]]


def write_batch(count: int, seed: int = 1) -> dict[str, bytes]:
    """Return `count` files: one face in many poses; of them 3% without a face, 3% with several, 2% damaged."""
    drawn = np.random.default_rng(seed)
    others = [cv2.imread(str(demo.photographs() / name)) for name in demo.OTHERS]
    files: dict[str, bytes] = {}
    for number in range(count):
        part = (number * 0.6180339887) % 1.0  # spreads the kinds evenly
        pose = {
            "angle": float(drawn.uniform(-20, 20)),
            "scale": float(drawn.uniform(0.7, 1.5)),
            "flip": bool(drawn.integers(2)),
            "gain": float(drawn.uniform(0.6, 1.3)),
        }
        if part < NO_FACE:
            image = cv2.resize(others[number % len(others)], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        elif part < NO_FACE + MANY:
            faces = [demo.variant(demo.portrait(), flip=bool(k % 2), angle=3.0 * k) for k in range(4)]
            image = np.vstack([np.hstack(faces[:2]), np.hstack(faces[2:])])
        else:
            image = cv2.resize(demo.variant(demo.portrait(), **pose), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        noisy = np.clip(image + drawn.normal(0, 3, image.shape), 0, 255).astype(np.uint8)
        content = cv2.imencode(".jpg", noisy)[1].tobytes()
        if part > 1 - CORRUPT:
            content = content[: len(content) // 3]
        files[f"person-{number // 10:03d}/{number:04d}.jpg"] = content
    return files | odd_formats()


def odd_formats() -> dict[str, bytes]:
    from PIL import Image

    head = cv2.resize(demo.portrait(), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    pillow = Image.fromarray(cv2.cvtColor(head, cv2.COLOR_BGR2RGB))
    files = {}
    for name, mode in (("cmyk.jpg", "CMYK"), ("alpha.png", "RGBA"), ("palette.gif", "P"), ("gray.jpg", "L")):
        buffer = io.BytesIO()
        pillow.convert(mode).save(buffer, Path(name).suffix[1:].replace("jpg", "jpeg"))
        files[f"odd/{name}"] = buffer.getvalue()
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    pillow.rotate(90).save(buffer, "jpeg", exif=exif)
    files["odd/turned.jpg"] = buffer.getvalue()
    files["odd/deep.png"] = cv2.imencode(".png", head.astype(np.uint16) * 257)[1].tobytes()
    files["odd/plain.tif"] = cv2.imencode(".tif", head)[1].tobytes()
    files["odd/plain.webp"] = cv2.imencode(".webp", head)[1].tobytes()
    return files


class Plain:
    """The notebook's aligner: models loaded when it is made, one image at a time."""

    def __init__(self) -> None:
        import dlib

        self.detector = dlib.get_frontal_face_detector()
        self.predictor = dlib.shape_predictor(str(models.packaged("inner-eyes")))
        self.seconds = 0.0

    def align(self, content: bytes) -> bytes | None:
        try:
            bgr = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error:
            return None
        if bgr is None:
            return None
        rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        started = time.thread_time()
        boxes = self.detector(rgb, 1)
        if not boxes:
            self.seconds += time.thread_time() - started
            return None
        box = max(boxes, key=lambda rect: rect.width() * rect.height())
        points = np.float32([(part.x, part.y) for part in self.predictor(rgb, box).parts()])
        matrix = cv2.getAffineTransform(points[[39, 42, 57]], 180 * np.float32(TEMPLATE))
        crop = cv2.warpAffine(rgb, matrix, (180, 180))
        self.seconds += time.thread_time() - started
        return cv2.imencode(".jpg", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))[1].tobytes()


def plain_flow(bucket: str, count: int, rebuilt: bool) -> dict[str, Any]:
    """One process, boto3, one image after the other; with `rebuilt`, a new aligner for each, as in the notebook."""
    import boto3

    cv2.setNumThreads(1)
    client = boto3.client("s3")
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="in/")
    keys = [entry["Key"] for page in pages for entry in page["Contents"]][:count]
    aligner = Plain()
    core = 0.0
    wall, cpu = time.perf_counter(), time.process_time()
    for key in keys:
        if rebuilt:
            aligner = Plain()
        crop = aligner.align(client.get_object(Bucket=bucket, Key=key)["Body"].read())
        core += aligner.seconds
        aligner.seconds = 0.0
        if crop is not None:
            client.put_object(Bucket=bucket, Key=f"plain/{key}", Body=crop)
    return {
        "images": len(keys),
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "core": core,
    }


def app_flow(bucket: str, workers: int) -> dict[str, Any]:
    """The application, from listing to the last commit."""
    from apps._frame.run import Run
    from apps._frame.stages import Stages
    from apps.face_align import stages
    from apps.face_align.batches import STAGE, look_for
    from apps.face_align.params import Params
    from core import FunctionExecutor

    executor = FunctionExecutor(workers=workers)
    params, place = Params(source=f"s3://{bucket}/in"), f"s3://{bucket}/out-{workers}"
    wall = time.perf_counter()
    with executor:
        job, found = look_for(params, place, executor)
        with Run(place, stages.APP, params, results=stages.RESULTS, overwrite=True) as opened:
            work = stages.begin(opened, job, found, executor, overwrite=True)
            result = stages.align_rest(opened, work, executor, Stages(opened, executor, [STAGE]), wall)
        took = time.perf_counter() - wall
        tasks = executor.stats()
    ends = (tasks["started"] + tasks["duration"]).groupby(tasks["worker"]).max()
    return {
        "images": len(found.items),
        "wall": took,
        "seconds": result.seconds,
        "status": result.counts,
        "batches": len(work.batches),
        "idle": float((ends.max() - ends).sum()),
        "peak_rss": int(tasks["peak_rss"].max()),
    }


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "plain":
        answer = plain_flow(rest[0], int(rest[1]), rest[2] == "rebuilt")
    else:
        answer = app_flow(rest[0], int(rest[1]))
    print(json.dumps(answer))
