"""Networks found by budgetnet; the weights and the evidence of each lie beside this file under its name."""

from torch import Tensor, nn


class Model_1(nn.Module):
    """(N, 1, 28, 28) images → (N, 10) logits, 7,790 params.

    Target: at least 99.4 % of the test images in every one of the last 5 of 15 epochs, with fewer than 8,000 params.
    This is the task's own target, asked of a first search with the defaults: it shows what these reach before anything
    is tuned.

    Result: 99.46 ± 0.08 % (mean ± standard deviation of the last epoch over 10 seeds, 10,000 test images).
        params       7,790 / 8,000
        MACs         1,193,310
        activations  14,896 at the peak
        best train   99.42 % (running figure of an epoch: changing weights, images as augmented)
        clean train  99.50 % (mean of the last weights, images as they are)
        best test    99.63 % (chosen on test, so it flatters)
        lowest       99.32 % in the last 5 epochs of any seed
        held         8 of 10 seeds
        seed 0       99.45 99.44 99.49 99.47 99.46 % (last 5 epochs)
        seed 1       99.38 99.37 99.37 99.40 99.42 % (last 5 epochs)
        seed 2       99.44 99.43 99.50 99.54 99.54 % (last 5 epochs)
        seed 3       99.45 99.47 99.48 99.45 99.45 % (last 5 epochs)
        seed 4       99.45 99.43 99.45 99.45 99.43 % (last 5 epochs)
        seed 5       99.48 99.50 99.55 99.48 99.47 % (last 5 epochs)
        seed 6       99.34 99.33 99.33 99.33 99.32 % (last 5 epochs)
        seed 7       99.56 99.60 99.61 99.63 99.62 % (last 5 epochs)
        seed 8       99.45 99.45 99.47 99.44 99.46 % (last 5 epochs)
        seed 9       99.50 99.54 99.47 99.46 99.46 % (last 5 epochs)

    Analysis:
    - The target held in 8 of 10 seeds (95 % Wilson interval of the share of seeds: 49.0 % to 94.3 %): whether it holds
      depends on the seed; the lowest of the last 5 epochs is 99.32 %.
    - Between seeds the last epoch varies by 0.08 points (standard deviation); the 95 % interval of its mean, by
      Student's t, is 99.41 to 99.52 %.
    - No overfitting beyond noise: on images as they are, the last weights classify 99.50 % of the training and 99.46 %
      of the test images, 0.04 points apart, within two standard errors of 10,000 images (0.07 points each).
    - No trend beyond the noise between seeds: mean test accuracy is 99.45 % at the first and 99.46 % at the last of the
      5 epochs (95 % interval of the rise -0.02 to +0.04 points, paired by seed, p 0.358).
    - Steady: no seed moved by more than 0.11 points within the last 5 epochs. Naming each seed's best epoch instead of
      its last would flatter it by 0.03 points on average.
    - It uses 7,790 / 8,000 params, 97.4 % of the budget, nearly all of it; 210 are left.
    - The receptive field of a cell of the last map (7 × 7) is 36 × 36 pixels, padding included, the image 28 × 28: 9 of
      the 49 cells see all of it.
    - The mean lies above the target, yet not every seed holds it; the task asks for every one of the last epochs, so it
      is not solved.

    Receptive field:
        layer      kind                output  jump  sees
        stem.0     Conv2d 3 × 3       28 × 28     1     3
        stage1.0   Conv2d 3 × 3       28 × 28     1     5
        stage2.0   MaxPool2d 2 × 2    14 × 14     2     6
        stage2.1   Conv2d 3 × 3       14 × 14     2    10
        stage2.4   Conv2d 1 × 1       14 × 14     2    10
        stage2.7   Conv2d 3 × 3       14 × 14     2    14
        stage2.10  Conv2d 1 × 1       14 × 14     2    14
        stage2.13  Conv2d 3 × 3       14 × 14     2    18
        stage2.16  Conv2d 1 × 1       14 × 14     2    18
        stage3.0   MaxPool2d 2 × 2      7 × 7     4    20
        stage3.1   Conv2d 3 × 3         7 × 7     4    28
        stage3.4   Conv2d 3 × 3         7 × 7     4    36
        head.0     AdaptiveAvgPool2d    1 × 1    28    60
        head.1     Conv2d 1 × 1         1 × 1    28    60

    Origin:
        study       mnist-8000, trial 4, search seed 0, validation accuracy 99.39 %
        data        mnist; retrained on all training images, seeds 0, 1, 2, 3, 4, 5, 6, 7, 8, 9; test read once an
                    epoch, to report
        network     c11 c8 M s19 s18 s18 M c17 c16
        input       pixels from 0 to 1, less 0.1307, over 0.3081
        recipe      learning_rate=0.27806805154242614, batch_size=128, epochs=15, optimizer=sgd, momentum=0.9,
                    nesterov=True, weight_decay=0.00026892550160276973, schedule=onecycle, warmup=0.2, step_size=6,
                    gamma=0.1, rotation=10.465932368959063, scale=0.032413424337056455, shift=0.117152934573149,
                    shear=0.0009345382806884794, fill=0.0, flip=False, label_smoothing=0.06, ema=0.999
        trained by  budgetnet 0.1.0, torch 2.15.0, numba 0.68.1, python 3.11.7, 1 thread of Intel(R) Xeon(R) Processor
        weights     Model_1.safetensors, of seed 0, the first, after its last epoch
                    sha256 c20e1286ca5a748f01b95bcd255a5930e7afcf2eb81ce38fde54c8e12aaaf696
        evidence    Model_1.json, all that was recorded
                    sha256 af9087d5fdb29c3bb24fececba0964f8f30d39eec4655a7f8838aac1131cbb3f
    """

    input_shape = (1, 28, 28)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 11, 3, padding=1, bias=False),  #             28 × 28, jump  1, receptive field  3
            nn.BatchNorm2d(11),
            nn.ReLU(),
        )
        self.stage1 = nn.Sequential(
            nn.Conv2d(11, 8, 3, padding=1, bias=False),  #             28 × 28, jump  1, receptive field  5
            nn.BatchNorm2d(8),
            nn.ReLU(),
        )
        self.stage2 = nn.Sequential(
            nn.MaxPool2d(2),  #                                        14 × 14, jump  2, receptive field  6
            nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),  #    14 × 14, jump  2, receptive field 10
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 19, 1, bias=False),  #                        14 × 14, jump  2, receptive field 10
            nn.BatchNorm2d(19),
            nn.ReLU(),
            nn.Conv2d(19, 19, 3, padding=1, groups=19, bias=False),  # 14 × 14, jump  2, receptive field 14
            nn.BatchNorm2d(19),
            nn.ReLU(),
            nn.Conv2d(19, 18, 1, bias=False),  #                       14 × 14, jump  2, receptive field 14
            nn.BatchNorm2d(18),
            nn.ReLU(),
            nn.Conv2d(18, 18, 3, padding=1, groups=18, bias=False),  # 14 × 14, jump  2, receptive field 18
            nn.BatchNorm2d(18),
            nn.ReLU(),
            nn.Conv2d(18, 18, 1, bias=False),  #                       14 × 14, jump  2, receptive field 18
            nn.BatchNorm2d(18),
            nn.ReLU(),
        )
        self.stage3 = nn.Sequential(
            nn.MaxPool2d(2),  #                                          7 × 7, jump  4, receptive field 20
            nn.Conv2d(18, 17, 3, padding=1, bias=False),  #              7 × 7, jump  4, receptive field 28
            nn.BatchNorm2d(17),
            nn.ReLU(),
            nn.Conv2d(17, 16, 3, padding=1, bias=False),  #              7 × 7, jump  4, receptive field 36
            nn.BatchNorm2d(16),
            nn.ReLU(),
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),  #                                  1 × 1, jump 28, receptive field 60
            nn.Conv2d(16, 10, 1),  #                                     1 × 1, jump 28, receptive field 60
            nn.Flatten(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 28, 28) images → (N, 10) logits."""
        x = self.stem(x)  #              (N, 11, 28, 28)
        x = self.stage1(x)  #            (N, 8, 28, 28)
        x = self.stage2(x)  #            (N, 18, 14, 14)
        x = self.stage3(x)  #            (N, 16, 7, 7)
        logits: Tensor = self.head(x)  # (N, 10)
        return logits
