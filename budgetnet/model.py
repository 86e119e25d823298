"""Networks found by budgetnet; the weights and the evidence of each lie beside this file under its name."""

from torch import Tensor, nn


class Model_1(nn.Module):
    """(N, 1, 28, 28) images → (N, 10) logits, 7,790 params.

    Target: at least 99.40 % of the test images in every one of the last 5 of 15 epochs, with fewer than 8,000 params.

    Result: 99.43 ± 0.04 % (mean ± standard deviation of the last epoch over 3 seeds, 10,000 test images).
        params       7,790 / 8,000
        MACs         1,193,310
        activations  14,896 at the peak
        best train   99.43 %
        best test    99.50 % (chosen on test, so it flatters)
        lowest       99.37 % in the last 5 epochs of any seed
        held         0 of 3 seeds
        seed 0       99.43 99.39 99.39 99.39 99.40 % (last 5 epochs)
        seed 1       99.37 99.44 99.48 99.50 99.48 % (last 5 epochs)
        seed 2       99.37 99.39 99.43 99.41 99.41 % (last 5 epochs)

    Analysis:
    - The target held in 0 of 3 seeds (95 % Wilson interval of the share of seeds: 0.0 % to 56.1 %): it is missed, and
      this network is no proof that the target can be held.
    - Between seeds the last epoch varies by 0.04 points (standard deviation); the 95 % interval of its mean, by
      Student's t, is 99.32 % to 99.54 %.
    - No sign of overfitting: training accuracy (99.36 %) ends 0.07 points below test accuracy (99.43 %); the two are
      not measured alike: training accuracy is a running figure of weights that still change, on augmented images, while
      the test figure is that of averaged weights.
    - Flat: mean test accuracy is 99.39 % at the first and 99.43 % at the last of the 5 epochs, no further apart than
      one standard error of 10,000 images (0.08 points).
    - Steady: no seed moved by more than 0.13 points within the last 5 epochs. Naming each seed's best epoch instead of
      its last would flatter it by 0.02 points on average.
    - It uses 7,790 / 8,000 params, 97.4 % of the budget, nearly all of it; 210 are left.
    - A cell of the last map (7 × 7) sees 36 × 36 pixels of the 28 × 28 image: wide enough for the whole image, before
      the head joins the cells.

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
        study     mnist-8000, trial 4, search seed 0, validation accuracy 99.39 %
        data      mnist; retrained on all training images, seeds 0, 1, 2; test was read, never chosen on
        network   c11 c8 M s19 s18 s18 M c17 c16
        recipe    learning_rate=0.27806805154242614, batch_size=128, epochs=15, optimizer=sgd, momentum=0.9,
                  nesterov=True, weight_decay=0.00026892550160276973, schedule=onecycle, warmup=0.2, step_size=6,
                  gamma=0.1, rotation=10.465932368959063, scale=0.032413424337056455, shift=0.117152934573149,
                  shear=0.0009345382806884794, fill=0.0, flip=False, label_smoothing=0.06, ema=0.999
        versions  budgetnet 0.1.0, torch 2.15.0, python 3.11.7
        weights   Model_1.safetensors, the last epoch of seed 0
        sha256    1ebb9863cfbb72a7297e0c4bc4f7ba67819518c710517c851f32d7537382cdf5
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
