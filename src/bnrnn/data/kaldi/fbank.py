"""Log-mel filterbanks of wav files.

They are computed by kaldi-native-fbank: Kaldi's own definition (Povey window, pre-emphasis .97, energies of the power
spectrum, the log energy first) in maintained wheels for all systems that need no Kaldi. Dither is off, so that the
same file always gives the same features.
"""

from __future__ import annotations

import io
import wave

import numpy as np

from bnrnn.data.registry import DataError

FILTERS = 40
DIMENSIONS = FILTERS + 1


def read_wav(content: bytes, start: float = 0.0, end: float = -1.0) -> tuple[np.ndarray, int]:
    """Samples of a wav file, float32 in the range of 16-bit integers as Kaldi has them, and their rate.

    Args:
        content: the file.
        start, end: seconds to cut out; an end of -1 stands for the file's.

    Raises:
        DataError: it is not a mono file of 16-bit integers, is truncated, or the piece does not lie in it.
    """
    try:
        with wave.open(io.BytesIO(content)) as file:
            if file.getnchannels() != 1 or file.getsampwidth() != 2:
                raise DataError(
                    f"it has {file.getnchannels()} channels of {8 * file.getsampwidth()} bits; one of 16 bits is needed"
                )
            rate, count = file.getframerate(), file.getnframes()
            first, last = round(start * rate), count if end == -1 else round(end * rate)
            if not 0 <= first <= last or last > count + rate // 2:  # Kaldi lets a segment end half a second late
                raise DataError(f"the piece from {start} to {end} s does not lie in its {count / rate:.3f} s")
            data = file.readframes(count)
    except (wave.Error, EOFError) as error:
        raise DataError(f"it is not a whole wav file ({error or 'it ends too early'})") from error
    if len(data) != 2 * count:
        raise DataError("it is not a whole wav file (it ends too early)")
    return np.frombuffer(data, "<i2")[first:last].astype(np.float32), rate


def fbank(samples: np.ndarray, rate: int, filters: int = FILTERS) -> np.ndarray:
    """Log energy and log-mel filterbanks every 10 ms over 25 ms, ``(T, 1 + filters)``.

    Args:
        samples: in the range of 16-bit integers.
        rate: samples a second.
        filters: mel filters, from 20 Hz to half the rate.
    """
    import kaldi_native_fbank

    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = rate
    options.frame_opts.dither = 0.0
    options.mel_opts.num_bins = filters
    options.use_energy = True
    computer = kaldi_native_fbank.OnlineFbank(options)
    computer.accept_waveform(rate, samples.tolist())
    computer.input_finished()
    frames = [computer.get_frame(index) for index in range(computer.num_frames_ready)]
    return np.stack(frames) if frames else np.zeros((0, 1 + filters), np.float32)
