"""A snapshot of a service with two cameras, to ask about."""

from __future__ import annotations

from edge.runner.status import CameraStatus, ConfigStatus, ModelStatus, SinkStatus, Status

STATUS = Status(
    version="1.2.3",
    uptime_s=3600.0,
    ready=True,
    hung=(),
    cameras=(
        CameraStatus(
            name="front",
            source="rtsp://***@10.0.0.5/stream",
            model="default",
            state="online",
            since_s=90.0,
            frames=1000,
            results=900,
            dropped=60,
            skipped=40,
            outages=2,
            reconnects=2,
            error="no frame for 10 s",
            fps=9.5,
            age_ms=(40.0, 120.0),
            size_wh=(1280, 720),
            found={"person": 7, 'a "b"\\\n': 2},
            sinks=(
                SinkStatus("log", "json"),
                SinkStatus("disk", "record", error="No space left on device", errors=3, lost=17),
            ),
        ),
        CameraStatus("back", "/dev/video0", "default", "offline", 12.5, error="cannot open /dev/video0"),
    ),
    models=(
        ModelStatus(
            name="default",
            path="/models/edge-yolo-n.tflite",
            description="LiteRT 2.3.0, CPU, 1 thread",
            interpreters=2,
            failure="the delegate went away",
            invocations=100,
            stuck_s=0.25,
            invoke_ms=(0, 0, 0, 10, 60, 20, 9, 0, 0, 0, 0, 0, 1),
            invoke_sum_ms=4321.0,
        ),
    ),
    config=ConfigStatus("/etc/edge/edge.toml", reloads=4, refused=1, error="cameras.front: unknown key"),
)
