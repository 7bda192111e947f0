"""What is read of the device, from copies of the kernel's trees."""

from __future__ import annotations

import pytest

from edge.device import DeviceReadings, read_device


def tree(root, files):
    for name, text in files.items():
        path = root / "sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


PI = {
    "class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "class/thermal/thermal_zone0/temp": "61835\n",
    "class/thermal/cooling_device0/type": "pwm-fan\n",
    "class/thermal/cooling_device0/cur_state": "3\n",
    "class/hwmon/hwmon0/name": "cpu_thermal\n",
    "class/hwmon/hwmon0/temp1_input": "61835\n",
    "class/hwmon/hwmon1/name": "rpi_volt\n",
    "class/hwmon/hwmon1/in0_lcrit_alarm": "1\n",
    "devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1500000\n",
    "devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq": "2400000\n",
}


def test_raspberry_pi(tmp_path):
    assert read_device(tree(tmp_path, PI)) == DeviceReadings(
        {"cpu-thermal": 61.835}, {"undervoltage": True}, {"policy0": 1.5e9}, {"policy0": 2.4e9}
    )


def test_the_file_that_warns_is_not_read_where_the_driver_is(tmp_path):
    # Reading it makes newer kernels log a stack trace.
    files = PI | {"devices/platform/soc/soc:firmware/get_throttled": "f\n", "class/hwmon/hwmon1/in0_lcrit_alarm": "0\n"}
    assert read_device(tree(tmp_path, files)).throttled == {"undervoltage": False}


@pytest.mark.parametrize(
    "word, active",
    [
        ("0", set()),
        ("50005", {"undervoltage", "throttled"}),
        ("0x8\n", {"soft-temperature-limit"}),
        ("f0002", {"frequency-capped"}),
    ],
)
def test_raspberry_pi_with_an_old_kernel(tmp_path, word, active):
    found = read_device(tree(tmp_path, {"devices/platform/soc/soc:firmware/get_throttled": word})).throttled
    assert set(found) == {"undervoltage", "frequency-capped", "throttled", "soft-temperature-limit"}
    assert {name for name, on in found.items() if on} == active


def test_jetson(tmp_path):
    files = {
        "class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "class/thermal/thermal_zone0/temp": "48312\n",
        "class/thermal/thermal_zone1/type": "gpu-thermal\n",
        "class/thermal/thermal_zone1/temp": "-256000\n",
        "class/thermal/thermal_zone10/type": "tj-thermal\n",
        "class/thermal/thermal_zone10/temp": "50125\n",
        "class/thermal/thermal_zone2/type": "cv0-thermal\n",
        "class/thermal/cooling_device0/type": "cpufreq-cpu0\n",
        "class/thermal/cooling_device0/cur_state": "2\n",
        "class/thermal/cooling_device7/type": "pwm-fan\n",
        "class/thermal/cooling_device7/cur_state": "2\n",
        "class/thermal/cooling_device8/type": "gpu-throttle-alert\n",
        "class/thermal/cooling_device8/cur_state": "0\n",
        "class/thermal/cooling_device9/type": "devfreq-17000000.gpu\n",
        "class/thermal/cooling_device9/cur_state": "18\n",
        "devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "729600\n",
        "devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq": "1510400\n",
        "devices/system/cpu/cpufreq/policy4/scaling_cur_freq": "1510400\n",
        "devices/system/cpu/cpufreq/policy4/cpuinfo_max_freq": "1510400\n",
    }
    root = tree(tmp_path, files)
    # A zone whose unit is off answers with an error to each read; a folder does too.
    (root / "sys/class/thermal/thermal_zone2/temp").mkdir()
    found = read_device(root)
    assert found.temperatures_c == {"cpu-thermal": 48.312, "tj-thermal": 50.125}
    assert found.throttled == {"cpufreq-cpu0": True, "gpu-throttle-alert": False}
    assert found.cpu_hz == {"policy0": 729.6e6, "policy4": 1510.4e6}


def test_pc(tmp_path):
    files = {
        "class/thermal/thermal_zone0/type": "acpitz\n",
        "class/thermal/thermal_zone0/temp": "27800\n",
        "class/thermal/thermal_zone1/type": "acpitz\n",
        "class/thermal/thermal_zone1/temp": "29800\n",
        "class/thermal/thermal_zone2/type": "iwlwifi_1\n",
        "class/thermal/thermal_zone2/temp": "not a number\n",
        "class/thermal/cooling_device0/type": "Processor\n",
        "class/thermal/cooling_device0/cur_state": "0\n",
        "class/thermal/cooling_device1/type": "Processor\n",
        "class/thermal/cooling_device1/cur_state": "1\n",
        "class/thermal/cooling_device2/type": "Processor\n",
        "class/thermal/cooling_device2/cur_state": "0\n",
        "class/hwmon/hwmon3/name": "k10temp\n",
        "class/hwmon/hwmon3/temp1_input": "55000\n",
        "class/hwmon/hwmon4/name": "nvme\n",
        "class/hwmon/hwmon4/temp1_input": "40000\n",
        "class/apex/apex_0/temp": "68550\n",
    }
    found = read_device(tree(tmp_path, files))
    assert found.temperatures_c == {"acpitz": 27.8, "acpitz-2": 29.8, "k10temp": 55.0, "edgetpu": 68.55}
    assert found.throttled == {"Processor": True}


def test_nothing(tmp_path):
    assert read_device(tmp_path) == DeviceReadings({}, {}, {}, {})


def test_something_else_where_a_folder_should_be(tmp_path):
    files = {"class/thermal": "", "class/hwmon/hwmon0": "", "devices/system/cpu/cpufreq/policy0/scaling_cur_freq": ""}
    assert read_device(tree(tmp_path, files)) == DeviceReadings({}, {}, {}, {})


def test_this_machine():
    found = read_device()
    assert all(-60 <= celsius <= 200 for celsius in found.temperatures_c.values())
    assert all(hz > 0 for hz in found.cpu_max_hz.values())
